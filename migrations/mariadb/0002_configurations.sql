-- The numbered versions of each master's configuration. Their content lies in files of the master (it may hold secrets).

CREATE TABLE IF NOT EXISTS `configurations` (
    `configurationid` BIGINT NOT NULL,
    `masterid` BIGINT,
    `number` BIGINT,
    `digest` LONGTEXT,
    `cause` LONGTEXT,
    `restores` BIGINT,
    `who` LONGTEXT,
    `created_at` BIGINT,
    `difference` LONGTEXT,
    `controlid` BIGINT,
    PRIMARY KEY (`configurationid`),
    UNIQUE KEY `configurations_masterid_number` (`masterid`, `number`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
