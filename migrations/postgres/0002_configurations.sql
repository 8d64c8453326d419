-- The numbered versions of each master's configuration. Their content lies in files of the master (it may hold secrets).

CREATE TABLE configurations (
    configurationid bigint NOT NULL,
    masterid bigint,
    number bigint,
    digest text COLLATE "C",
    cause text COLLATE "C",
    restores bigint,
    who text COLLATE "C",
    created_at bigint,
    difference text COLLATE "C",
    controlid bigint,
    PRIMARY KEY (configurationid)
);
CREATE UNIQUE INDEX configurations_masterid_number ON configurations (masterid, number);
