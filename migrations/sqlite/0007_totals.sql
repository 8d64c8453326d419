-- How many there are of what a history holds: of each master its share, of master 0 what was there before.
-- An empty database stays empty: it can be copied into.

CREATE TABLE totals (
    name TEXT NOT NULL,
    masterid INTEGER NOT NULL,
    total INTEGER,
    PRIMARY KEY (name, masterid)
) WITHOUT ROWID;

INSERT INTO totals
    SELECT 'builds', 0, count(*) FROM builds HAVING count(*) > 0
    UNION ALL SELECT 'buildrequests', 0, count(*) FROM buildrequests HAVING count(*) > 0
    UNION ALL SELECT 'buildsets', 0, count(*) FROM buildsets HAVING count(*) > 0
    UNION ALL SELECT 'changes', 0, count(*) FROM changes HAVING count(*) > 0
    UNION ALL SELECT 'builders/' || builderid || '/builds', 0, count(*) FROM builds GROUP BY builderid
    UNION ALL SELECT 'builders/' || builderid || '/buildrequests', 0, count(*) FROM buildrequests GROUP BY builderid;

-- Orders and filters of lists, of builder rows and of the console.

DROP INDEX changes_branch;
CREATE INDEX changes_branch_changeid ON changes (branch, changeid);
CREATE INDEX changes_codebase_changeid ON changes (codebase, changeid);
CREATE INDEX changes_project_changeid ON changes (project, changeid);
CREATE INDEX changes_repository_changeid ON changes (repository, changeid);
CREATE INDEX buildsets_rebuilt_buildid_bsid ON buildsets (rebuilt_buildid, bsid);
CREATE INDEX buildsets_submitted_at_bsid ON buildsets (submitted_at, bsid);
CREATE INDEX buildrequests_submitted_at_buildrequestid ON buildrequests (submitted_at, buildrequestid);
CREATE INDEX builds_results_buildid ON builds (results, buildid);
CREATE INDEX builds_started_at_buildid ON builds (started_at, buildid);
CREATE INDEX builds_builderid_started_at_buildid ON builds (builderid, started_at, buildid);
CREATE INDEX builds_builderid_results_number ON builds (builderid, results, number);
