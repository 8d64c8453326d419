-- Log text that has left for an object store: `object` names it, `object_at` and `object_size` say where in it, and `data` is empty.
ALTER TABLE log_segments ADD COLUMN object bigint, ADD COLUMN object_at bigint, ADD COLUMN object_size bigint;
-- Objects of log text: being written (state 0), in use (1), to be removed (2).
CREATE TABLE log_objects (
    logid bigint NOT NULL,
    objectid bigint NOT NULL,
    state bigint,
    size bigint,
    masterid bigint,
    epoch bigint,
    PRIMARY KEY (logid, objectid)
);
CREATE INDEX log_objects_state ON log_objects (state);
-- Logs with text that is to leave, from line `first` on.
CREATE TABLE log_moves (
    logid bigint NOT NULL PRIMARY KEY,
    masterid bigint,
    first bigint
);
