-- For who reads the events of several masters from the database: where all that the events up to there build on ends.
CREATE TABLE event_cuts (
    masterid INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    clock TEXT,
    PRIMARY KEY (masterid, seq)
) WITHOUT ROWID;
