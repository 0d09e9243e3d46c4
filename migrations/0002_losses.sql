-- What is lost, by cause and by channel.

-- Readings lost since the store was made, by cause.
CREATE TABLE loss (
    reason TEXT    PRIMARY KEY,
    count  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Losses that no row of `gap` tells yet: told after the next start, if not before.
CREATE TABLE untold (
    from_time INTEGER NOT NULL,
    to_time   INTEGER NOT NULL,
    count     INTEGER NOT NULL,
    channel   TEXT,           -- its full name; NULL: of several
    reason    TEXT    NOT NULL
) STRICT;

-- The ledger of each channel; `stored` counts through `ledger.counted`.
ALTER TABLE channel ADD COLUMN stored INTEGER NOT NULL DEFAULT 0;
ALTER TABLE channel ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;
