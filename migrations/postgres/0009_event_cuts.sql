-- For who reads the events of several masters from the database: where all that the events up to there build on ends.
CREATE TABLE event_cuts (
    masterid bigint NOT NULL,
    seq bigint NOT NULL,
    clock text COLLATE "C",
    PRIMARY KEY (masterid, seq)
);
