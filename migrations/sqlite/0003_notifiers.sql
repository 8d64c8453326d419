-- Notifiers, and their messages: waiting ones are the outbox, the others the record of what became of them.

CREATE TABLE notifiers (
    notifierid INTEGER PRIMARY KEY,
    name TEXT,
    kind TEXT,
    masterid INTEGER,
    version INTEGER
);
CREATE UNIQUE INDEX notifiers_name ON notifiers (name);

CREATE TABLE deliveries (
    deliveryid INTEGER PRIMARY KEY,
    notifier TEXT,
    created_at INTEGER,
    due_at INTEGER,
    dedup_key TEXT,
    subject TEXT,
    buildid INTEGER,
    notice TEXT,
    state TEXT,
    attempts INTEGER,
    target TEXT,
    reason TEXT,
    settled_at INTEGER,
    version INTEGER
);
CREATE UNIQUE INDEX deliveries_notifier_dedup_key ON deliveries (notifier, dedup_key);
CREATE INDEX deliveries_notifier_state_deliveryid ON deliveries (notifier, state, deliveryid);
