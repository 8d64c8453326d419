-- Log text that has left for an object store: `object` names it, `object_at` and `object_size` say where in it, and `data` is empty.
ALTER TABLE `log_segments` ADD COLUMN IF NOT EXISTS `object` BIGINT, ADD COLUMN IF NOT EXISTS `object_at` BIGINT,
    ADD COLUMN IF NOT EXISTS `object_size` BIGINT;
-- Objects of log text: being written (state 0), in use (1), to be removed (2).
CREATE TABLE IF NOT EXISTS `log_objects` (
    `logid` BIGINT NOT NULL,
    `objectid` BIGINT NOT NULL,
    `state` BIGINT,
    `size` BIGINT,
    `masterid` BIGINT,
    `epoch` BIGINT,
    PRIMARY KEY (`logid`, `objectid`),
    KEY `log_objects_state` (`state`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
-- Logs with text that is to leave, from line `first` on.
CREATE TABLE IF NOT EXISTS `log_moves` (
    `logid` BIGINT NOT NULL,
    `masterid` BIGINT,
    `first` BIGINT,
    PRIMARY KEY (`logid`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
