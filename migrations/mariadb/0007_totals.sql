-- How many there are of what a history holds: of each master its share, of master 0 what was there before.

CREATE OR REPLACE TABLE `totals` (
    `name` VARCHAR(64) NOT NULL,
    `masterid` BIGINT NOT NULL,
    `total` BIGINT,
    PRIMARY KEY (`name`, `masterid`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin AS
    SELECT 'builds' AS `name`, 0 AS `masterid`, count(*) AS `total` FROM `builds` HAVING count(*) > 0
    UNION ALL SELECT 'buildrequests', 0, count(*) FROM `buildrequests` HAVING count(*) > 0
    UNION ALL SELECT 'buildsets', 0, count(*) FROM `buildsets` HAVING count(*) > 0
    UNION ALL SELECT 'changes', 0, count(*) FROM `changes` HAVING count(*) > 0
    UNION ALL SELECT CONCAT('builders/', `builderid`, '/builds'), 0, count(*) FROM `builds` GROUP BY `builderid`
    UNION ALL SELECT CONCAT('builders/', `builderid`, '/buildrequests'), 0, count(*) FROM `buildrequests` GROUP BY `builderid`;

-- Orders and filters of lists, of builder rows and of the console. An index over the beginnings of texts cannot give an order, one over their
-- checksums can; conditions name both (engine/sql.rs).

ALTER TABLE `changes` ADD COLUMN IF NOT EXISTS `branch_sum` INT UNSIGNED AS (CRC32(`branch`)) VIRTUAL;
ALTER TABLE `changes` ADD COLUMN IF NOT EXISTS `codebase_sum` INT UNSIGNED AS (CRC32(`codebase`)) VIRTUAL;
ALTER TABLE `changes` ADD COLUMN IF NOT EXISTS `project_sum` INT UNSIGNED AS (CRC32(`project`)) VIRTUAL;
ALTER TABLE `changes` ADD COLUMN IF NOT EXISTS `repository_sum` INT UNSIGNED AS (CRC32(`repository`)) VIRTUAL;
DROP INDEX IF EXISTS `changes_branch` ON `changes`;
DROP INDEX IF EXISTS `changes_repository_branch_changeid` ON `changes`;
CREATE INDEX IF NOT EXISTS `changes_repository_branch_changeid` ON `changes` (`repository_sum`, `branch_sum`, `changeid`);
CREATE INDEX IF NOT EXISTS `changes_branch_changeid` ON `changes` (`branch_sum`, `changeid`);
CREATE INDEX IF NOT EXISTS `changes_codebase_changeid` ON `changes` (`codebase_sum`, `changeid`);
CREATE INDEX IF NOT EXISTS `changes_project_changeid` ON `changes` (`project_sum`, `changeid`);
CREATE INDEX IF NOT EXISTS `changes_repository_changeid` ON `changes` (`repository_sum`, `changeid`);
CREATE INDEX IF NOT EXISTS `buildsets_rebuilt_buildid_bsid` ON `buildsets` (`rebuilt_buildid`, `bsid`);
CREATE INDEX IF NOT EXISTS `buildsets_submitted_at_bsid` ON `buildsets` (`submitted_at`, `bsid`);
CREATE INDEX IF NOT EXISTS `buildrequests_submitted_at_buildrequestid` ON `buildrequests` (`submitted_at`, `buildrequestid`);
CREATE INDEX IF NOT EXISTS `builds_results_buildid` ON `builds` (`results`, `buildid`);
CREATE INDEX IF NOT EXISTS `builds_started_at_buildid` ON `builds` (`started_at`, `buildid`);
CREATE INDEX IF NOT EXISTS `builds_builderid_started_at_buildid` ON `builds` (`builderid`, `started_at`, `buildid`);
CREATE INDEX IF NOT EXISTS `builds_builderid_results_number` ON `builds` (`builderid`, `results`, `number`);
