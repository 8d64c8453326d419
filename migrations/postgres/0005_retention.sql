-- What retention knows of builds beside what they are: only pinned builds, and those whose logs are gone, have a row.

CREATE TABLE build_marks (
    buildid bigint NOT NULL,
    pinned bigint,
    pinned_by text COLLATE "C",
    pinned_at bigint,
    logs_removed_at bigint,
    PRIMARY KEY (buildid)
);

-- Logs whose row is gone and whose text is still to be removed.

CREATE TABLE removed_logs (
    logid bigint NOT NULL,
    removed_at bigint,
    PRIMARY KEY (logid)
);

CREATE INDEX change_origins_changeid ON change_origins (changeid);
