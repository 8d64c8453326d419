-- What retention knows of builds beside what they are: only pinned builds, and those whose logs are gone, have a row.

CREATE TABLE IF NOT EXISTS `build_marks` (
    `buildid` BIGINT NOT NULL,
    `pinned` BIGINT,
    `pinned_by` LONGTEXT,
    `pinned_at` BIGINT,
    `logs_removed_at` BIGINT,
    PRIMARY KEY (`buildid`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- Logs whose row is gone and whose text is still to be removed.

CREATE TABLE IF NOT EXISTS `removed_logs` (
    `logid` BIGINT NOT NULL,
    `removed_at` BIGINT,
    PRIMARY KEY (`logid`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE INDEX IF NOT EXISTS `change_origins_changeid` ON `change_origins` (`changeid`);
