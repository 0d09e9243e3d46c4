-- What Tidemill's gateways send, each reading once. For PostgreSQL 12 and later:
--   psql -f postgresql.sql

-- (gateway, epoch, seq) names a record for ever, so a duplicate is refused by the primary key:
-- INSERT … ON CONFLICT DO NOTHING.
CREATE TABLE IF NOT EXISTS readings (
    gateway    text             NOT NULL,
    epoch      text             NOT NULL,
    seq        bigint           NOT NULL,
    time       timestamptz      NOT NULL,
    channel    text             NOT NULL, -- device/channel
    number     double precision,          -- one of these three; none when the reading is bad
    truth      boolean,
    text       text,
    unit       text,
    quality    text             NOT NULL, -- good, uncertain, bad
    reason     text,
    historical boolean          NOT NULL DEFAULT false,
    received   timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (gateway, epoch, seq)
);
CREATE INDEX IF NOT EXISTS readings_of_a_channel ON readings (gateway, channel, time);

-- Readings that are missing, as the gateway itself tells it.
CREATE TABLE IF NOT EXISTS gaps (
    gateway   text        NOT NULL,
    epoch     text        NOT NULL,
    seq       bigint      NOT NULL,
    from_time timestamptz NOT NULL,
    to_time   timestamptz NOT NULL,
    count     bigint      NOT NULL,
    channel   text,                 -- NULL: of several
    reason    text        NOT NULL,
    received  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (gateway, epoch, seq)
);

-- Numbers within a start of a gateway that have not come, whatever the reason: each is a reading on its way (a
-- backlog behind fresh readings), one that a gap tells of (refused by the broker), or one that was lost after the
-- broker had acknowledged it. Right when the forwarder's `channels` are ["*"]: others leave out numbers on purpose.
CREATE OR REPLACE VIEW missing AS
SELECT gateway, epoch, before + 1 AS first_seq, seq - 1 AS last_seq, seq - before - 1 AS count
FROM (
    SELECT gateway, epoch, seq, lag(seq) OVER (PARTITION BY gateway, epoch ORDER BY seq) AS before
    FROM (
        SELECT gateway, epoch, seq FROM readings
        UNION ALL
        SELECT gateway, epoch, seq FROM gaps
    ) AS records
) AS neighbours
WHERE seq - before > 1;
