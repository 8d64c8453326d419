-- Control acts are the audit log: where each was asked from, and a view for third parties. What was written twice goes.

ALTER TABLE `control_acts` ADD COLUMN IF NOT EXISTS `came_from` LONGTEXT;
CREATE INDEX IF NOT EXISTS `control_acts_requested_at` ON `control_acts` (`requested_at`);
DROP TABLE IF EXISTS `audit`;
CREATE OR REPLACE VIEW `v1_audit` AS SELECT `controlid`, `requested_at`, `identity`, `came_from`, `action`, `target`, `act_key`, `answer`, `answered_at`
    FROM `control_acts`;
