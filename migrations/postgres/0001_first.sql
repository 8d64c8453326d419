-- The first schema. Times are UTC microseconds, booleans 0 or 1, nested values JSON text. Text compares by byte.
-- Third parties read the views `v1_…`; the tables are the program's own.

CREATE TABLE generation (
    id bigint NOT NULL,
    generation bigint,
    PRIMARY KEY (id)
);

CREATE TABLE counters (
    kind text COLLATE "C" NOT NULL,
    next bigint,
    PRIMARY KEY (kind)
);

CREATE TABLE masters (
    masterid bigint NOT NULL,
    name text COLLATE "C",
    active bigint,
    last_active bigint,
    epoch bigint,
    version bigint,
    PRIMARY KEY (masterid)
);
CREATE UNIQUE INDEX masters_name ON masters (name);

CREATE TABLE master_heads (
    masterid bigint NOT NULL,
    epoch bigint,
    seq bigint,
    floor bigint,
    lease_until bigint,
    PRIMARY KEY (masterid)
);

CREATE TABLE builders (
    builderid bigint NOT NULL,
    name text COLLATE "C",
    description text COLLATE "C",
    projectid bigint,
    tags text COLLATE "C",
    masterids text COLLATE "C",
    version bigint,
    PRIMARY KEY (builderid)
);
CREATE UNIQUE INDEX builders_name ON builders (name);

CREATE TABLE workers (
    workerid bigint NOT NULL,
    name text COLLATE "C",
    workerinfo text COLLATE "C",
    paused bigint,
    pause_reason text COLLATE "C",
    graceful bigint,
    connected_to text COLLATE "C",
    configured_on text COLLATE "C",
    changed_at bigint,
    version bigint,
    PRIMARY KEY (workerid)
);
CREATE UNIQUE INDEX workers_name ON workers (name);

CREATE TABLE schedulers (
    schedulerid bigint NOT NULL,
    name text COLLATE "C",
    enabled bigint,
    masterid bigint,
    version bigint,
    PRIMARY KEY (schedulerid)
);
CREATE UNIQUE INDEX schedulers_name ON schedulers (name);

CREATE TABLE scheduler_states (
    schedulerid bigint NOT NULL,
    clock text COLLATE "C",
    pending text COLLATE "C",
    PRIMARY KEY (schedulerid)
);

CREATE TABLE change_sources (
    changesourceid bigint NOT NULL,
    name text COLLATE "C",
    masterid bigint,
    version bigint,
    PRIMARY KEY (changesourceid)
);
CREATE UNIQUE INDEX change_sources_name ON change_sources (name);

CREATE TABLE change_source_states (
    changesourceid bigint NOT NULL,
    state text COLLATE "C",
    PRIMARY KEY (changesourceid)
);

CREATE TABLE projects (
    projectid bigint NOT NULL,
    name text COLLATE "C",
    slug text COLLATE "C",
    description text COLLATE "C",
    version bigint,
    PRIMARY KEY (projectid)
);
CREATE UNIQUE INDEX projects_name ON projects (name);

CREATE TABLE codebases (
    codebaseid bigint NOT NULL,
    name text COLLATE "C",
    projectid bigint,
    version bigint,
    PRIMARY KEY (codebaseid)
);
CREATE UNIQUE INDEX codebases_name ON codebases (name);

CREATE TABLE patches (
    patchid bigint NOT NULL,
    level bigint,
    subdir text COLLATE "C",
    author text COLLATE "C",
    comment text COLLATE "C",
    body text COLLATE "C",
    PRIMARY KEY (patchid)
);

CREATE TABLE sourcestamps (
    ssid bigint NOT NULL,
    branch text COLLATE "C",
    revision text COLLATE "C",
    project text COLLATE "C",
    repository text COLLATE "C",
    codebase text COLLATE "C",
    created_at bigint,
    patchid bigint,
    hash text COLLATE "C",
    PRIMARY KEY (ssid)
);
CREATE UNIQUE INDEX sourcestamps_hash ON sourcestamps (hash);
CREATE INDEX sourcestamps_revision ON sourcestamps (revision);

CREATE TABLE changes (
    changeid bigint NOT NULL,
    author text COLLATE "C",
    committer text COLLATE "C",
    comments text COLLATE "C",
    branch text COLLATE "C",
    revision text COLLATE "C",
    revlink text COLLATE "C",
    when_timestamp bigint,
    category text COLLATE "C",
    parent_changeids text COLLATE "C",
    repository text COLLATE "C",
    codebase text COLLATE "C",
    project text COLLATE "C",
    files text COLLATE "C",
    properties text COLLATE "C",
    ssid bigint,
    origin text COLLATE "C",
    PRIMARY KEY (changeid)
);
CREATE INDEX changes_repository_branch_changeid ON changes (repository, branch, changeid);
CREATE INDEX changes_branch ON changes (branch);
CREATE INDEX changes_revision ON changes (revision);
CREATE INDEX changes_ssid ON changes (ssid);

CREATE TABLE change_origins (
    origin_key text COLLATE "C" NOT NULL,
    changeid bigint,
    PRIMARY KEY (origin_key)
);

CREATE TABLE buildsets (
    bsid bigint NOT NULL,
    external_idstring text COLLATE "C",
    reason text COLLATE "C",
    submitted_at bigint,
    complete bigint,
    complete_at bigint,
    results bigint,
    parent_buildid bigint,
    parent_relationship text COLLATE "C",
    rebuilt_buildid bigint,
    scheduler text COLLATE "C",
    version bigint,
    PRIMARY KEY (bsid)
);
CREATE INDEX buildsets_complete_bsid ON buildsets (complete, bsid);
CREATE INDEX buildsets_parent_buildid ON buildsets (parent_buildid);

CREATE TABLE buildset_properties (
    bsid bigint NOT NULL,
    properties text COLLATE "C",
    PRIMARY KEY (bsid)
);

CREATE TABLE buildset_sourcestamps (
    bsid bigint NOT NULL,
    "position" bigint NOT NULL,
    ssid bigint,
    PRIMARY KEY (bsid, position)
);
CREATE INDEX buildset_sourcestamps_ssid_bsid ON buildset_sourcestamps (ssid, bsid);

CREATE TABLE buildrequests (
    buildrequestid bigint NOT NULL,
    buildsetid bigint,
    builderid bigint,
    priority bigint,
    claimed bigint,
    claimed_at bigint,
    claimed_by_masterid bigint,
    complete bigint,
    complete_at bigint,
    results bigint,
    submitted_at bigint,
    waited_for bigint,
    retries bigint,
    version bigint,
    PRIMARY KEY (buildrequestid)
);
CREATE INDEX buildrequests_complete_buildrequestid ON buildrequests (complete, buildrequestid);
CREATE INDEX buildrequests_buildsetid ON buildrequests (buildsetid);
CREATE INDEX buildrequests_builderid_buildrequestid ON buildrequests (builderid, buildrequestid);

CREATE TABLE builds (
    buildid bigint NOT NULL,
    number bigint,
    builderid bigint,
    buildrequestid bigint,
    workerid bigint,
    masterid bigint,
    started_at bigint,
    complete bigint,
    complete_at bigint,
    locks_duration_s bigint,
    results bigint,
    state_string text COLLATE "C",
    version bigint,
    PRIMARY KEY (buildid)
);
CREATE UNIQUE INDEX builds_builderid_number ON builds (builderid, number);
CREATE INDEX builds_complete_buildid ON builds (complete, buildid);
CREATE INDEX builds_buildrequestid ON builds (buildrequestid);
CREATE INDEX builds_workerid_buildid ON builds (workerid, buildid);

CREATE TABLE build_properties (
    buildid bigint NOT NULL,
    properties text COLLATE "C",
    PRIMARY KEY (buildid)
);

CREATE TABLE steps (
    stepid bigint NOT NULL,
    number bigint,
    name text COLLATE "C",
    buildid bigint,
    started_at bigint,
    locks_acquired_at bigint,
    complete bigint,
    complete_at bigint,
    results bigint,
    state_string text COLLATE "C",
    urls text COLLATE "C",
    hidden bigint,
    command text COLLATE "C",
    version bigint,
    PRIMARY KEY (stepid)
);
CREATE UNIQUE INDEX steps_buildid_number ON steps (buildid, number);

CREATE TABLE logs (
    logid bigint NOT NULL,
    name text COLLATE "C",
    slug text COLLATE "C",
    stepid bigint,
    complete bigint,
    num_lines bigint,
    type text COLLATE "C",
    version bigint,
    PRIMARY KEY (logid)
);
CREATE UNIQUE INDEX logs_stepid_slug ON logs (stepid, slug);
CREATE INDEX logs_complete_logid ON logs (complete, logid);

CREATE TABLE control_acts (
    controlid bigint NOT NULL,
    identity text COLLATE "C",
    act_key text COLLATE "C",
    target text COLLATE "C",
    action text COLLATE "C",
    params text COLLATE "C",
    requested_at bigint,
    answer text COLLATE "C",
    answered_at bigint,
    version bigint,
    PRIMARY KEY (controlid)
);
CREATE UNIQUE INDEX control_acts_identity_act_key ON control_acts (identity, act_key);
CREATE INDEX control_acts_answered_at_controlid ON control_acts (answered_at, controlid);

CREATE TABLE audit (
    controlid bigint NOT NULL,
    "at" bigint,
    identity text COLLATE "C",
    action text COLLATE "C",
    target text COLLATE "C",
    PRIMARY KEY (controlid)
);
CREATE INDEX audit_at ON audit (at);

CREATE TABLE listeners (
    name text COLLATE "C" NOT NULL,
    clock text COLLATE "C",
    settings text COLLATE "C",
    PRIMARY KEY (name)
);

CREATE TABLE write_ids (
    id bytea NOT NULL,
    "at" bigint,
    outcome text COLLATE "C",
    PRIMARY KEY (id)
);
CREATE INDEX write_ids_at ON write_ids (at);

CREATE TABLE events (
    masterid bigint NOT NULL,
    seq bigint NOT NULL,
    topic text COLLATE "C",
    body text COLLATE "C",
    "at" bigint,
    PRIMARY KEY (masterid, seq)
);

-- Log text. A segment holds the lines first .. first + lines of a log, compressed; `bytes` is the size of the text.
CREATE TABLE log_segments (
    logid bigint NOT NULL,
    first bigint NOT NULL,
    lines bigint,
    bytes bigint,
    data bytea,
    PRIMARY KEY (logid, first)
);
-- It is compressed already.
ALTER TABLE log_segments ALTER COLUMN data SET STORAGE EXTERNAL;

-- Who may write log text of a master: apart from its head, so that log text and state never wait for each other.
CREATE TABLE log_writers (
    masterid bigint NOT NULL PRIMARY KEY,
    epoch bigint
);

-- Promised to third parties.
CREATE VIEW v1_builders AS SELECT builderid, name, description, projectid, tags FROM builders;
CREATE VIEW v1_changes AS SELECT changeid, author, committer, comments, branch, revision, revlink, when_timestamp, category,
    repository, codebase, project, files, properties, ssid FROM changes;
CREATE VIEW v1_buildsets AS SELECT bsid, external_idstring, reason, submitted_at, complete, complete_at, results, parent_buildid,
    parent_relationship, rebuilt_buildid, scheduler FROM buildsets;
CREATE VIEW v1_buildrequests AS SELECT buildrequestid, buildsetid, builderid, priority, claimed, claimed_at, claimed_by_masterid,
    complete, complete_at, results, submitted_at, waited_for FROM buildrequests;
CREATE VIEW v1_builds AS SELECT buildid, number, builderid, buildrequestid, workerid, masterid, started_at, complete, complete_at,
    locks_duration_s, results, state_string FROM builds;
CREATE VIEW v1_steps AS SELECT stepid, number, name, buildid, started_at, complete, complete_at, results, state_string, urls, hidden
    FROM steps;
