-- Notifiers, and their messages: waiting ones are the outbox, the others the record of what became of them.

CREATE TABLE IF NOT EXISTS `notifiers` (
    `notifierid` BIGINT NOT NULL,
    `name` VARCHAR(700),
    `kind` LONGTEXT,
    `masterid` BIGINT,
    `version` BIGINT,
    PRIMARY KEY (`notifierid`),
    UNIQUE KEY `notifiers_name` (`name`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS `deliveries` (
    `deliveryid` BIGINT NOT NULL,
    `notifier` VARCHAR(250),
    `created_at` BIGINT,
    `due_at` BIGINT,
    `dedup_key` VARCHAR(500),
    `subject` LONGTEXT,
    `buildid` BIGINT,
    `notice` LONGTEXT,
    `state` VARCHAR(20),
    `attempts` BIGINT,
    `target` LONGTEXT,
    `reason` LONGTEXT,
    `settled_at` BIGINT,
    `version` BIGINT,
    PRIMARY KEY (`deliveryid`),
    UNIQUE KEY `deliveries_notifier_dedup_key` (`notifier`, `dedup_key`),
    KEY `deliveries_notifier_state_deliveryid` (`notifier`, `state`, `deliveryid`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
