-- Notifiers, and their messages: waiting ones are the outbox, the others the record of what became of them.

CREATE TABLE notifiers (
    notifierid bigint NOT NULL,
    name text COLLATE "C",
    kind text COLLATE "C",
    masterid bigint,
    version bigint,
    PRIMARY KEY (notifierid)
);
CREATE UNIQUE INDEX notifiers_name ON notifiers (name);

CREATE TABLE deliveries (
    deliveryid bigint NOT NULL,
    notifier text COLLATE "C",
    created_at bigint,
    due_at bigint,
    dedup_key text COLLATE "C",
    subject text COLLATE "C",
    buildid bigint,
    notice text COLLATE "C",
    state text COLLATE "C",
    attempts bigint,
    target text COLLATE "C",
    reason text COLLATE "C",
    settled_at bigint,
    version bigint,
    PRIMARY KEY (deliveryid)
);
CREATE UNIQUE INDEX deliveries_notifier_dedup_key ON deliveries (notifier, dedup_key);
CREATE INDEX deliveries_notifier_state_deliveryid ON deliveries (notifier, state, deliveryid);
