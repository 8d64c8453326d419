-- More of what is promised to third parties; docs/operator-guide/database-views.md tells of each column.

CREATE OR REPLACE VIEW v1_masters AS SELECT masterid, name, active, last_active FROM masters;
CREATE OR REPLACE VIEW v1_workers AS SELECT workerid, name, workerinfo, paused, pause_reason, graceful, connected_to, configured_on
    FROM workers;
CREATE OR REPLACE VIEW v1_schedulers AS SELECT schedulerid, name, enabled, masterid FROM schedulers;
CREATE OR REPLACE VIEW v1_projects AS SELECT projectid, name, slug, description FROM projects;
CREATE OR REPLACE VIEW v1_sourcestamps AS SELECT ssid, branch, revision, project, repository, codebase, created_at, patchid FROM sourcestamps;
CREATE OR REPLACE VIEW v1_buildset_sourcestamps AS SELECT bsid, `position`, ssid FROM buildset_sourcestamps;
CREATE OR REPLACE VIEW v1_logs AS SELECT logid, name, slug, stepid, complete, num_lines, type FROM logs;
CREATE OR REPLACE VIEW v1_buildset_properties AS SELECT bsid, properties FROM buildset_properties;
CREATE OR REPLACE VIEW v1_build_properties AS SELECT buildid, properties FROM build_properties;
