-- The first schema. Times are UTC microseconds, booleans 0 or 1, nested values JSON text. Text compares by byte.
-- Third parties read the views `v1_…`; the tables are the program's own.
-- Each statement takes effect by itself, so each must do no harm when it is repeated: IF NOT EXISTS, OR REPLACE.

CREATE TABLE IF NOT EXISTS `generation` (
    `id` BIGINT NOT NULL,
    `generation` BIGINT,
    PRIMARY KEY (`id`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `counters` (
    `kind` VARCHAR(64) NOT NULL,
    `next` BIGINT,
    PRIMARY KEY (`kind`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `masters` (
    `masterid` BIGINT NOT NULL,
    `name` VARCHAR(700),
    `active` BIGINT,
    `last_active` BIGINT,
    `epoch` BIGINT,
    `version` BIGINT,
    PRIMARY KEY (`masterid`),
    UNIQUE KEY `masters_name` (`name`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `master_heads` (
    `masterid` BIGINT NOT NULL,
    `epoch` BIGINT,
    `seq` BIGINT,
    `floor` BIGINT,
    `lease_until` BIGINT,
    PRIMARY KEY (`masterid`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `builders` (
    `builderid` BIGINT NOT NULL,
    `name` VARCHAR(700),
    `description` LONGTEXT,
    `projectid` BIGINT,
    `tags` LONGTEXT,
    `masterids` LONGTEXT,
    `version` BIGINT,
    PRIMARY KEY (`builderid`),
    UNIQUE KEY `builders_name` (`name`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `workers` (
    `workerid` BIGINT NOT NULL,
    `name` VARCHAR(700),
    `workerinfo` LONGTEXT,
    `paused` BIGINT,
    `pause_reason` LONGTEXT,
    `graceful` BIGINT,
    `connected_to` LONGTEXT,
    `configured_on` LONGTEXT,
    `changed_at` BIGINT,
    `version` BIGINT,
    PRIMARY KEY (`workerid`),
    UNIQUE KEY `workers_name` (`name`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `schedulers` (
    `schedulerid` BIGINT NOT NULL,
    `name` VARCHAR(700),
    `enabled` BIGINT,
    `masterid` BIGINT,
    `version` BIGINT,
    PRIMARY KEY (`schedulerid`),
    UNIQUE KEY `schedulers_name` (`name`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `scheduler_states` (
    `schedulerid` BIGINT NOT NULL,
    `clock` LONGTEXT,
    `pending` LONGTEXT,
    PRIMARY KEY (`schedulerid`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `change_sources` (
    `changesourceid` BIGINT NOT NULL,
    `name` VARCHAR(700),
    `masterid` BIGINT,
    `version` BIGINT,
    PRIMARY KEY (`changesourceid`),
    UNIQUE KEY `change_sources_name` (`name`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `change_source_states` (
    `changesourceid` BIGINT NOT NULL,
    `state` LONGTEXT,
    PRIMARY KEY (`changesourceid`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `projects` (
    `projectid` BIGINT NOT NULL,
    `name` VARCHAR(700),
    `slug` LONGTEXT,
    `description` LONGTEXT,
    `version` BIGINT,
    PRIMARY KEY (`projectid`),
    UNIQUE KEY `projects_name` (`name`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `codebases` (
    `codebaseid` BIGINT NOT NULL,
    `name` VARCHAR(700),
    `projectid` BIGINT,
    `version` BIGINT,
    PRIMARY KEY (`codebaseid`),
    UNIQUE KEY `codebases_name` (`name`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `patches` (
    `patchid` BIGINT NOT NULL,
    `level` BIGINT,
    `subdir` LONGTEXT,
    `author` LONGTEXT,
    `comment` LONGTEXT,
    `body` LONGTEXT,
    PRIMARY KEY (`patchid`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `sourcestamps` (
    `ssid` BIGINT NOT NULL,
    `branch` LONGTEXT,
    `revision` LONGTEXT,
    `project` LONGTEXT,
    `repository` LONGTEXT,
    `codebase` LONGTEXT,
    `created_at` BIGINT,
    `patchid` BIGINT,
    `hash` VARCHAR(64),
    PRIMARY KEY (`ssid`),
    UNIQUE KEY `sourcestamps_hash` (`hash`),
    KEY `sourcestamps_revision` (`revision`(100))
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `changes` (
    `changeid` BIGINT NOT NULL,
    `author` LONGTEXT,
    `committer` LONGTEXT,
    `comments` LONGTEXT,
    `branch` LONGTEXT,
    `revision` LONGTEXT,
    `revlink` LONGTEXT,
    `when_timestamp` BIGINT,
    `category` LONGTEXT,
    `parent_changeids` LONGTEXT,
    `repository` LONGTEXT,
    `codebase` LONGTEXT,
    `project` LONGTEXT,
    `files` LONGTEXT,
    `properties` LONGTEXT,
    `ssid` BIGINT,
    `origin` LONGTEXT,
    PRIMARY KEY (`changeid`),
    KEY `changes_repository_branch_changeid` (`repository`(250), `branch`(250), `changeid`),
    KEY `changes_branch` (`branch`(250)),
    KEY `changes_revision` (`revision`(100)),
    KEY `changes_ssid` (`ssid`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `change_origins` (
    `origin_key` VARCHAR(700) NOT NULL,
    `changeid` BIGINT,
    PRIMARY KEY (`origin_key`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `buildsets` (
    `bsid` BIGINT NOT NULL,
    `external_idstring` LONGTEXT,
    `reason` LONGTEXT,
    `submitted_at` BIGINT,
    `complete` BIGINT,
    `complete_at` BIGINT,
    `results` BIGINT,
    `parent_buildid` BIGINT,
    `parent_relationship` LONGTEXT,
    `rebuilt_buildid` BIGINT,
    `scheduler` LONGTEXT,
    `version` BIGINT,
    PRIMARY KEY (`bsid`),
    KEY `buildsets_complete_bsid` (`complete`, `bsid`),
    KEY `buildsets_parent_buildid` (`parent_buildid`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `buildset_properties` (
    `bsid` BIGINT NOT NULL,
    `properties` LONGTEXT,
    PRIMARY KEY (`bsid`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `buildset_sourcestamps` (
    `bsid` BIGINT NOT NULL,
    `position` BIGINT NOT NULL,
    `ssid` BIGINT,
    PRIMARY KEY (`bsid`, `position`),
    KEY `buildset_sourcestamps_ssid_bsid` (`ssid`, `bsid`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `buildrequests` (
    `buildrequestid` BIGINT NOT NULL,
    `buildsetid` BIGINT,
    `builderid` BIGINT,
    `priority` BIGINT,
    `claimed` BIGINT,
    `claimed_at` BIGINT,
    `claimed_by_masterid` BIGINT,
    `complete` BIGINT,
    `complete_at` BIGINT,
    `results` BIGINT,
    `submitted_at` BIGINT,
    `waited_for` BIGINT,
    `retries` BIGINT,
    `version` BIGINT,
    PRIMARY KEY (`buildrequestid`),
    KEY `buildrequests_complete_buildrequestid` (`complete`, `buildrequestid`),
    KEY `buildrequests_buildsetid` (`buildsetid`),
    KEY `buildrequests_builderid_buildrequestid` (`builderid`, `buildrequestid`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `builds` (
    `buildid` BIGINT NOT NULL,
    `number` BIGINT,
    `builderid` BIGINT,
    `buildrequestid` BIGINT,
    `workerid` BIGINT,
    `masterid` BIGINT,
    `started_at` BIGINT,
    `complete` BIGINT,
    `complete_at` BIGINT,
    `locks_duration_s` BIGINT,
    `results` BIGINT,
    `state_string` LONGTEXT,
    `version` BIGINT,
    PRIMARY KEY (`buildid`),
    UNIQUE KEY `builds_builderid_number` (`builderid`, `number`),
    KEY `builds_complete_buildid` (`complete`, `buildid`),
    KEY `builds_buildrequestid` (`buildrequestid`),
    KEY `builds_workerid_buildid` (`workerid`, `buildid`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `build_properties` (
    `buildid` BIGINT NOT NULL,
    `properties` LONGTEXT,
    PRIMARY KEY (`buildid`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `steps` (
    `stepid` BIGINT NOT NULL,
    `number` BIGINT,
    `name` LONGTEXT,
    `buildid` BIGINT,
    `started_at` BIGINT,
    `locks_acquired_at` BIGINT,
    `complete` BIGINT,
    `complete_at` BIGINT,
    `results` BIGINT,
    `state_string` LONGTEXT,
    `urls` LONGTEXT,
    `hidden` BIGINT,
    `command` LONGTEXT,
    `version` BIGINT,
    PRIMARY KEY (`stepid`),
    UNIQUE KEY `steps_buildid_number` (`buildid`, `number`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `logs` (
    `logid` BIGINT NOT NULL,
    `name` LONGTEXT,
    `slug` VARCHAR(700),
    `stepid` BIGINT,
    `complete` BIGINT,
    `num_lines` BIGINT,
    `type` LONGTEXT,
    `version` BIGINT,
    PRIMARY KEY (`logid`),
    UNIQUE KEY `logs_stepid_slug` (`stepid`, `slug`),
    KEY `logs_complete_logid` (`complete`, `logid`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `control_acts` (
    `controlid` BIGINT NOT NULL,
    `identity` VARCHAR(255),
    `act_key` VARCHAR(500),
    `target` LONGTEXT,
    `action` LONGTEXT,
    `params` LONGTEXT,
    `requested_at` BIGINT,
    `answer` LONGTEXT,
    `answered_at` BIGINT,
    `version` BIGINT,
    PRIMARY KEY (`controlid`),
    UNIQUE KEY `control_acts_identity_act_key` (`identity`, `act_key`),
    KEY `control_acts_answered_at_controlid` (`answered_at`, `controlid`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `audit` (
    `controlid` BIGINT NOT NULL,
    `at` BIGINT,
    `identity` LONGTEXT,
    `action` LONGTEXT,
    `target` LONGTEXT,
    PRIMARY KEY (`controlid`),
    KEY `audit_at` (`at`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `listeners` (
    `name` VARCHAR(700) NOT NULL,
    `clock` LONGTEXT,
    `settings` LONGTEXT,
    PRIMARY KEY (`name`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `write_ids` (
    `id` VARBINARY(16) NOT NULL,
    `at` BIGINT,
    `outcome` LONGTEXT,
    PRIMARY KEY (`id`),
    KEY `write_ids_at` (`at`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `events` (
    `masterid` BIGINT NOT NULL,
    `seq` BIGINT NOT NULL,
    `topic` LONGTEXT,
    `body` LONGTEXT,
    `at` BIGINT,
    PRIMARY KEY (`masterid`, `seq`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- Log text. A segment holds the lines first .. first + lines of a log, compressed; `bytes` is the size of the text.
CREATE TABLE IF NOT EXISTS `log_segments` (
    `logid` BIGINT NOT NULL,
    `first` BIGINT NOT NULL,
    `lines` BIGINT,
    `bytes` BIGINT,
    `data` LONGBLOB,
    PRIMARY KEY (`logid`, `first`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- Who may write log text of a master: apart from its head, so that log text and state never wait for each other.
CREATE TABLE IF NOT EXISTS `log_writers` (
    `masterid` BIGINT NOT NULL,
    `epoch` BIGINT,
    PRIMARY KEY (`masterid`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- Promised to third parties.
CREATE OR REPLACE VIEW v1_builders AS SELECT builderid, name, description, projectid, tags FROM builders;
CREATE OR REPLACE VIEW v1_changes AS SELECT changeid, author, committer, comments, branch, revision, revlink, when_timestamp, category,
    repository, codebase, project, files, properties, ssid FROM changes;
CREATE OR REPLACE VIEW v1_buildsets AS SELECT bsid, external_idstring, reason, submitted_at, complete, complete_at, results, parent_buildid,
    parent_relationship, rebuilt_buildid, scheduler FROM buildsets;
CREATE OR REPLACE VIEW v1_buildrequests AS SELECT buildrequestid, buildsetid, builderid, priority, claimed, claimed_at, claimed_by_masterid,
    complete, complete_at, results, submitted_at, waited_for FROM buildrequests;
CREATE OR REPLACE VIEW v1_builds AS SELECT buildid, number, builderid, buildrequestid, workerid, masterid, started_at, complete, complete_at,
    locks_duration_s, results, state_string FROM builds;
CREATE OR REPLACE VIEW v1_steps AS SELECT stepid, number, name, buildid, started_at, complete, complete_at, results, state_string, urls, hidden
    FROM steps;
