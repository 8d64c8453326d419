-- The first schema. Times are UTC microseconds, booleans 0 or 1, nested values JSON text.
-- Third parties read the views `v1_…`; the tables are the program's own.

CREATE TABLE generation (
    id INTEGER PRIMARY KEY,
    generation INTEGER
);

CREATE TABLE counters (
    kind TEXT NOT NULL,
    next INTEGER,
    PRIMARY KEY (kind)
) WITHOUT ROWID;

CREATE TABLE masters (
    masterid INTEGER PRIMARY KEY,
    name TEXT,
    active INTEGER,
    last_active INTEGER,
    epoch INTEGER,
    version INTEGER
);
CREATE UNIQUE INDEX masters_name ON masters (name);

CREATE TABLE master_heads (
    masterid INTEGER PRIMARY KEY,
    epoch INTEGER,
    seq INTEGER,
    floor INTEGER,
    lease_until INTEGER
);

CREATE TABLE builders (
    builderid INTEGER PRIMARY KEY,
    name TEXT,
    description TEXT,
    projectid INTEGER,
    tags TEXT,
    masterids TEXT,
    version INTEGER
);
CREATE UNIQUE INDEX builders_name ON builders (name);

CREATE TABLE workers (
    workerid INTEGER PRIMARY KEY,
    name TEXT,
    workerinfo TEXT,
    paused INTEGER,
    pause_reason TEXT,
    graceful INTEGER,
    connected_to TEXT,
    configured_on TEXT,
    changed_at INTEGER,
    version INTEGER
);
CREATE UNIQUE INDEX workers_name ON workers (name);

CREATE TABLE schedulers (
    schedulerid INTEGER PRIMARY KEY,
    name TEXT,
    enabled INTEGER,
    masterid INTEGER,
    version INTEGER
);
CREATE UNIQUE INDEX schedulers_name ON schedulers (name);

CREATE TABLE scheduler_states (
    schedulerid INTEGER PRIMARY KEY,
    clock TEXT,
    pending TEXT
);

CREATE TABLE change_sources (
    changesourceid INTEGER PRIMARY KEY,
    name TEXT,
    masterid INTEGER,
    version INTEGER
);
CREATE UNIQUE INDEX change_sources_name ON change_sources (name);

CREATE TABLE change_source_states (
    changesourceid INTEGER PRIMARY KEY,
    state TEXT
);

CREATE TABLE projects (
    projectid INTEGER PRIMARY KEY,
    name TEXT,
    slug TEXT,
    description TEXT,
    version INTEGER
);
CREATE UNIQUE INDEX projects_name ON projects (name);

CREATE TABLE codebases (
    codebaseid INTEGER PRIMARY KEY,
    name TEXT,
    projectid INTEGER,
    version INTEGER
);
CREATE UNIQUE INDEX codebases_name ON codebases (name);

CREATE TABLE patches (
    patchid INTEGER PRIMARY KEY,
    level INTEGER,
    subdir TEXT,
    author TEXT,
    comment TEXT,
    body TEXT
);

CREATE TABLE sourcestamps (
    ssid INTEGER PRIMARY KEY,
    branch TEXT,
    revision TEXT,
    project TEXT,
    repository TEXT,
    codebase TEXT,
    created_at INTEGER,
    patchid INTEGER,
    hash TEXT
);
CREATE UNIQUE INDEX sourcestamps_hash ON sourcestamps (hash);
CREATE INDEX sourcestamps_revision ON sourcestamps (revision);

CREATE TABLE changes (
    changeid INTEGER PRIMARY KEY,
    author TEXT,
    committer TEXT,
    comments TEXT,
    branch TEXT,
    revision TEXT,
    revlink TEXT,
    when_timestamp INTEGER,
    category TEXT,
    parent_changeids TEXT,
    repository TEXT,
    codebase TEXT,
    project TEXT,
    files TEXT,
    properties TEXT,
    ssid INTEGER,
    origin TEXT
);
CREATE INDEX changes_repository_branch_changeid ON changes (repository, branch, changeid);
CREATE INDEX changes_branch ON changes (branch);
CREATE INDEX changes_revision ON changes (revision);
CREATE INDEX changes_ssid ON changes (ssid);

CREATE TABLE change_origins (
    origin_key TEXT NOT NULL,
    changeid INTEGER,
    PRIMARY KEY (origin_key)
) WITHOUT ROWID;

CREATE TABLE buildsets (
    bsid INTEGER PRIMARY KEY,
    external_idstring TEXT,
    reason TEXT,
    submitted_at INTEGER,
    complete INTEGER,
    complete_at INTEGER,
    results INTEGER,
    parent_buildid INTEGER,
    parent_relationship TEXT,
    rebuilt_buildid INTEGER,
    scheduler TEXT,
    version INTEGER
);
CREATE INDEX buildsets_complete_bsid ON buildsets (complete, bsid);
CREATE INDEX buildsets_parent_buildid ON buildsets (parent_buildid);

CREATE TABLE buildset_properties (
    bsid INTEGER PRIMARY KEY,
    properties TEXT
);

CREATE TABLE buildset_sourcestamps (
    bsid INTEGER NOT NULL,
    position INTEGER NOT NULL,
    ssid INTEGER,
    PRIMARY KEY (bsid, position)
) WITHOUT ROWID;
CREATE INDEX buildset_sourcestamps_ssid_bsid ON buildset_sourcestamps (ssid, bsid);

CREATE TABLE buildrequests (
    buildrequestid INTEGER PRIMARY KEY,
    buildsetid INTEGER,
    builderid INTEGER,
    priority INTEGER,
    claimed INTEGER,
    claimed_at INTEGER,
    claimed_by_masterid INTEGER,
    complete INTEGER,
    complete_at INTEGER,
    results INTEGER,
    submitted_at INTEGER,
    waited_for INTEGER,
    retries INTEGER,
    version INTEGER
);
CREATE INDEX buildrequests_complete_buildrequestid ON buildrequests (complete, buildrequestid);
CREATE INDEX buildrequests_buildsetid ON buildrequests (buildsetid);
CREATE INDEX buildrequests_builderid_buildrequestid ON buildrequests (builderid, buildrequestid);

CREATE TABLE builds (
    buildid INTEGER PRIMARY KEY,
    number INTEGER,
    builderid INTEGER,
    buildrequestid INTEGER,
    workerid INTEGER,
    masterid INTEGER,
    started_at INTEGER,
    complete INTEGER,
    complete_at INTEGER,
    locks_duration_s INTEGER,
    results INTEGER,
    state_string TEXT,
    version INTEGER
);
CREATE UNIQUE INDEX builds_builderid_number ON builds (builderid, number);
CREATE INDEX builds_complete_buildid ON builds (complete, buildid);
CREATE INDEX builds_buildrequestid ON builds (buildrequestid);
CREATE INDEX builds_workerid_buildid ON builds (workerid, buildid);

CREATE TABLE build_properties (
    buildid INTEGER PRIMARY KEY,
    properties TEXT
);

CREATE TABLE steps (
    stepid INTEGER PRIMARY KEY,
    number INTEGER,
    name TEXT,
    buildid INTEGER,
    started_at INTEGER,
    locks_acquired_at INTEGER,
    complete INTEGER,
    complete_at INTEGER,
    results INTEGER,
    state_string TEXT,
    urls TEXT,
    hidden INTEGER,
    command TEXT,
    version INTEGER
);
CREATE UNIQUE INDEX steps_buildid_number ON steps (buildid, number);

CREATE TABLE logs (
    logid INTEGER PRIMARY KEY,
    name TEXT,
    slug TEXT,
    stepid INTEGER,
    complete INTEGER,
    num_lines INTEGER,
    type TEXT,
    version INTEGER
);
CREATE UNIQUE INDEX logs_stepid_slug ON logs (stepid, slug);
CREATE INDEX logs_complete_logid ON logs (complete, logid);

CREATE TABLE control_acts (
    controlid INTEGER PRIMARY KEY,
    identity TEXT,
    act_key TEXT,
    target TEXT,
    action TEXT,
    params TEXT,
    requested_at INTEGER,
    answer TEXT,
    answered_at INTEGER,
    version INTEGER
);
CREATE UNIQUE INDEX control_acts_identity_act_key ON control_acts (identity, act_key);
CREATE INDEX control_acts_answered_at_controlid ON control_acts (answered_at, controlid);

CREATE TABLE audit (
    controlid INTEGER PRIMARY KEY,
    at INTEGER,
    identity TEXT,
    action TEXT,
    target TEXT
);
CREATE INDEX audit_at ON audit (at);

CREATE TABLE listeners (
    name TEXT NOT NULL,
    clock TEXT,
    settings TEXT,
    PRIMARY KEY (name)
) WITHOUT ROWID;

CREATE TABLE write_ids (
    id BLOB NOT NULL,
    at INTEGER,
    outcome TEXT,
    PRIMARY KEY (id)
) WITHOUT ROWID;
CREATE INDEX write_ids_at ON write_ids (at);

CREATE TABLE events (
    masterid INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    topic TEXT,
    body TEXT,
    at INTEGER,
    PRIMARY KEY (masterid, seq)
) WITHOUT ROWID;

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
