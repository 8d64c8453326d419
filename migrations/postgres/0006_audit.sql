-- Control acts are the audit log: where each was asked from, and a view for third parties. What was written twice goes.

ALTER TABLE control_acts ADD COLUMN came_from text COLLATE "C";
CREATE INDEX control_acts_requested_at ON control_acts (requested_at);
DROP TABLE audit;
CREATE VIEW v1_audit AS SELECT controlid, requested_at, identity, came_from, action, target, act_key, answer, answered_at
    FROM control_acts;
