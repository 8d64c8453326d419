-- The numbered versions of each master's configuration. Their content lies in files of the master (it may hold secrets).

CREATE TABLE configurations (
    configurationid INTEGER PRIMARY KEY,
    masterid INTEGER,
    number INTEGER,
    digest TEXT,
    cause TEXT,
    restores INTEGER,
    who TEXT,
    created_at INTEGER,
    difference TEXT,
    controlid INTEGER
);
CREATE UNIQUE INDEX configurations_masterid_number ON configurations (masterid, number);
