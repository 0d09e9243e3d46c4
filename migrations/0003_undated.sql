-- Readings taken before the clock was set: a row for each start of the gateway
-- with such. Those after `through` are held back from forwarders. Their
-- monotonic time (CLOCK_BOOTTIME, microseconds) is log.time - ahead; of those
-- through it, log.time - ahead - correction.
CREATE TABLE undated (
    first_seq  INTEGER PRIMARY KEY,
    last_seq   INTEGER,          -- NULL: the clock is not set yet
    boot_id    TEXT,             -- which start of the machine
    ahead      INTEGER NOT NULL, -- how far times were ahead of monotonic time, microseconds
    since      INTEGER NOT NULL, -- monotonic time of the first, microseconds
    correction INTEGER,          -- what is added to their times; NULL: not known
    given_up   INTEGER NOT NULL, -- 1: forwarded as they are, uncertain
    through    INTEGER NOT NULL  -- they are so, or corrected, through this number
) STRICT;
