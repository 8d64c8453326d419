-- What retention knows of builds beside what they are: only pinned builds, and those whose logs are gone, have a row.

CREATE TABLE build_marks (
    buildid INTEGER PRIMARY KEY,
    pinned INTEGER,
    pinned_by TEXT,
    pinned_at INTEGER,
    logs_removed_at INTEGER
);

-- Logs whose row is gone and whose text is still to be removed.

CREATE TABLE removed_logs (
    logid INTEGER PRIMARY KEY,
    removed_at INTEGER
);

CREATE INDEX change_origins_changeid ON change_origins (changeid);
