-- For who reads the events of several masters from the database: where all that the events up to there build on ends.
CREATE TABLE IF NOT EXISTS `event_cuts` (
    `masterid` BIGINT NOT NULL,
    `seq` BIGINT NOT NULL,
    `clock` LONGTEXT,
    PRIMARY KEY (`masterid`, `seq`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
