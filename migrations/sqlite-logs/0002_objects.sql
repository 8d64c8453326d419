-- Text that has left for an object store: `object` names it, `object_at` and `object_size` say where in it, and `data` is empty.
ALTER TABLE segments RENAME TO log_segments;
ALTER TABLE log_segments ADD COLUMN object INTEGER;
ALTER TABLE log_segments ADD COLUMN object_at INTEGER;
ALTER TABLE log_segments ADD COLUMN object_size INTEGER;
-- Objects of log text: being written (state 0), in use (1), to be removed (2).
CREATE TABLE log_objects (
    logid INTEGER NOT NULL,
    objectid INTEGER NOT NULL,
    state INTEGER,
    size INTEGER,
    masterid INTEGER,
    epoch INTEGER,
    PRIMARY KEY (logid, objectid)
) WITHOUT ROWID;
CREATE INDEX log_objects_state ON log_objects (state);
-- Logs with text that is to leave, from line `first` on.
CREATE TABLE log_moves (
    logid INTEGER NOT NULL PRIMARY KEY,
    masterid INTEGER,
    first INTEGER
);
