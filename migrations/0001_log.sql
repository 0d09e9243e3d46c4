-- The log of readings and what belongs to it. crates/store/src/lib.rs tells
-- what each table is for; people read the views `readings` and `gaps`.

CREATE TABLE channel (
    id     INTEGER PRIMARY KEY,
    device TEXT NOT NULL,
    name   TEXT NOT NULL,
    kind   TEXT NOT NULL CHECK (kind IN ('number', 'boolean', 'text')),
    unit   TEXT NOT NULL,
    label  TEXT,
    UNIQUE (device, name)
) STRICT;

-- What the codes in `log.quality` mean; filled by the program, never changed.
CREATE TABLE quality (
    code    INTEGER PRIMARY KEY,
    quality TEXT NOT NULL CHECK (quality IN ('good', 'uncertain', 'bad')),
    reason  TEXT
) STRICT;

-- One row a start. A record belongs to the last row with first_seq <= seq.
CREATE TABLE epoch (
    id        INTEGER PRIMARY KEY,
    epoch     TEXT    NOT NULL UNIQUE CHECK (length(epoch) = 16),
    first_seq INTEGER NOT NULL,
    started   INTEGER NOT NULL, -- microseconds since 1970, UTC
    boot_id   TEXT
) STRICT;

-- No further index: one on (channel, time) makes five times as many bytes.
CREATE TABLE log (
    seq     INTEGER PRIMARY KEY,
    channel INTEGER NOT NULL,
    time    INTEGER NOT NULL, -- microseconds since 1970, UTC
    value   ANY,              -- REAL, INTEGER (0 or 1: a boolean) or TEXT; NULL when bad
    quality INTEGER NOT NULL
) STRICT;

-- Numbered as the readings are: a number is in `log` or in `gap`.
CREATE TABLE gap (
    seq       INTEGER PRIMARY KEY,
    from_time INTEGER NOT NULL,
    to_time   INTEGER NOT NULL,
    count     INTEGER NOT NULL,
    channel   INTEGER,        -- NULL: of several
    reason    TEXT    NOT NULL
) STRICT;

-- One minute of one channel. `first` and `last` are the lowest and the highest
-- number in it: how a span of time is found in a log that has no index on time.
CREATE TABLE rollup (
    channel INTEGER NOT NULL,
    minute  INTEGER NOT NULL, -- minutes since 1970, UTC
    first   INTEGER NOT NULL,
    last    INTEGER NOT NULL,
    min     REAL,
    sum     REAL    NOT NULL,
    max     REAL,
    count   INTEGER NOT NULL, -- numbers
    bad     INTEGER NOT NULL, -- readings without a value
    PRIMARY KEY (channel, minute)
) STRICT, WITHOUT ROWID;

-- How far each forwarder has got, and its part of the ledger:
-- stored = acknowledged + waiting + dropped. Readings after `counted` are not
-- yet in `stored`: they are counted when the file is opened.
CREATE TABLE forwarder (
    name         TEXT    PRIMARY KEY,
    channels     TEXT    NOT NULL, -- its patterns, separated by spaces
    position     INTEGER NOT NULL,
    counted      INTEGER NOT NULL,
    stored       INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL,
    dropped      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE ledger (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    counted INTEGER NOT NULL, -- the last number that `stored` counts
    stored  INTEGER NOT NULL, -- readings ever committed
    dropped INTEGER NOT NULL, -- readings never committed
    removed INTEGER NOT NULL, -- readings committed and removed since
    purged  INTEGER NOT NULL, -- the last number removed
    rolled  INTEGER NOT NULL  -- the last number that `rollup` includes
) STRICT;
INSERT INTO ledger VALUES (1, 0, 0, 0, 0, 0, 0);

-- LEFT JOIN keeps the log the outer loop, in order of its numbers.
CREATE VIEW readings AS
SELECT
    log.seq AS seq,
    strftime('%Y-%m-%dT%H:%M:%S', (log.time - (log.time % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06dZ', (log.time % 1000000 + 1000000) % 1000000) AS time,
    channel.device AS device,
    channel.name AS channel,
    log.value AS value,
    channel.unit AS unit,
    quality.quality AS quality,
    quality.reason AS reason
FROM log
LEFT JOIN channel ON channel.id = log.channel
LEFT JOIN quality ON quality.code = log.quality;

CREATE VIEW gaps AS
SELECT
    gap.seq AS seq,
    (SELECT epoch.epoch FROM epoch WHERE epoch.first_seq <= gap.seq ORDER BY epoch.id DESC LIMIT 1) AS epoch,
    strftime('%Y-%m-%dT%H:%M:%S', (gap.from_time - (gap.from_time % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06dZ', (gap.from_time % 1000000 + 1000000) % 1000000) AS from_time,
    strftime('%Y-%m-%dT%H:%M:%S', (gap.to_time - (gap.to_time % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06dZ', (gap.to_time % 1000000 + 1000000) % 1000000) AS to_time,
    gap.count AS count,
    channel.device || '/' || channel.name AS channel,
    gap.reason AS reason
FROM gap
LEFT JOIN channel ON channel.id = gap.channel;
