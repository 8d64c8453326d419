//! The tables, once for all engines; `migrations/` creates the same (a test compares them).
//!
//! A column that a public field is stored in bears the field's name ([`greenroom_model::query`]). Times are microseconds, booleans
//! 0 or 1, nested values JSON. Rows of entities have a `version`, raised by each announced change.

use crate::engine::ColumnType::{Blob, Int, Text};
use crate::engine::Table;

macro_rules! tables {
    ($($name:ident = $table:literal key $key:literal [$($column:literal: $ty:ident),* $(,)?]
        unique $unique:expr, index $index:expr;)*) => {
        $(pub static $name: Table = Table {
            name: $table, columns: &[$(($column, $ty)),*], key: $key, unique: $unique, indexes: $index,
        };)*
        /// Every table.
        pub static ALL: &[&Table] = &[$(&$name),*];
    };
}

tables! {
    GENERATION = "generation" key 1 ["id": Int, "generation": Int] unique &[], index &[];
    COUNTERS = "counters" key 1 ["kind": Text, "next": Int] unique &[], index &[];
    // How many there are of what a history holds: of each master its share.
    TOTALS = "totals" key 2 ["name": Text, "masterid": Int, "total": Int] unique &[], index &[];
    MASTERS = "masters" key 1 ["masterid": Int, "name": Text, "active": Int, "last_active": Int, "epoch": Int, "version": Int]
        unique &[&["name"]], index &[];
    // What fences and orders, apart from the entity, because each commit writes it.
    MASTER_HEADS = "master_heads" key 1 ["masterid": Int, "epoch": Int, "seq": Int, "floor": Int, "lease_until": Int]
        unique &[], index &[];
    BUILDERS = "builders" key 1 [
        "builderid": Int, "name": Text, "description": Text, "projectid": Int, "tags": Text, "masterids": Text, "version": Int,
    ] unique &[&["name"]], index &[];
    WORKERS = "workers" key 1 [
        "workerid": Int, "name": Text, "workerinfo": Text, "paused": Int, "pause_reason": Text, "graceful": Int,
        "connected_to": Text, "configured_on": Text, "changed_at": Int, "version": Int,
    ] unique &[&["name"]], index &[];
    SCHEDULERS = "schedulers" key 1 ["schedulerid": Int, "name": Text, "enabled": Int, "masterid": Int, "version": Int]
        unique &[&["name"]], index &[];
    SCHEDULER_STATES = "scheduler_states" key 1 ["schedulerid": Int, "clock": Text, "pending": Text] unique &[], index &[];
    CHANGE_SOURCES = "change_sources" key 1 ["changesourceid": Int, "name": Text, "masterid": Int, "version": Int]
        unique &[&["name"]], index &[];
    CHANGE_SOURCE_STATES = "change_source_states" key 1 ["changesourceid": Int, "state": Text] unique &[], index &[];
    PROJECTS = "projects" key 1 ["projectid": Int, "name": Text, "slug": Text, "description": Text, "version": Int]
        unique &[&["name"]], index &[];
    CODEBASES = "codebases" key 1 ["codebaseid": Int, "name": Text, "projectid": Int, "version": Int]
        unique &[&["name"]], index &[];
    PATCHES = "patches" key 1 [
        "patchid": Int, "level": Int, "subdir": Text, "author": Text, "comment": Text, "body": Text,
    ] unique &[], index &[];
    SOURCESTAMPS = "sourcestamps" key 1 [
        "ssid": Int, "branch": Text, "revision": Text, "project": Text, "repository": Text, "codebase": Text, "created_at": Int,
        "patchid": Int, "hash": Text,
    ] unique &[&["hash"]], index &[&["revision"]];
    CHANGES = "changes" key 1 [
        "changeid": Int, "author": Text, "committer": Text, "comments": Text, "branch": Text, "revision": Text, "revlink": Text,
        "when_timestamp": Int, "category": Text, "parent_changeids": Text, "repository": Text, "codebase": Text, "project": Text,
        "files": Text, "properties": Text, "ssid": Int, "origin": Text,
    ] unique &[], index &[
        &["repository", "branch", "changeid"], &["branch", "changeid"], &["codebase", "changeid"], &["project", "changeid"],
        &["repository", "changeid"], &["revision"], &["ssid"],
    ];
    CHANGE_ORIGINS = "change_origins" key 1 ["origin_key": Text, "changeid": Int] unique &[], index &[&["changeid"]];
    BUILDSETS = "buildsets" key 1 [
        "bsid": Int, "external_idstring": Text, "reason": Text, "submitted_at": Int, "complete": Int, "complete_at": Int,
        "results": Int, "parent_buildid": Int, "parent_relationship": Text, "rebuilt_buildid": Int, "scheduler": Text,
        "version": Int,
    ] unique &[], index &[
        &["complete", "bsid"], &["parent_buildid"], &["rebuilt_buildid", "bsid"], &["submitted_at", "bsid"],
    ];
    BUILDSET_PROPERTIES = "buildset_properties" key 1 ["bsid": Int, "properties": Text] unique &[], index &[];
    BUILDSET_SOURCESTAMPS = "buildset_sourcestamps" key 2 ["bsid": Int, "position": Int, "ssid": Int]
        unique &[], index &[&["ssid", "bsid"]];
    BUILDREQUESTS = "buildrequests" key 1 [
        "buildrequestid": Int, "buildsetid": Int, "builderid": Int, "priority": Int, "claimed": Int, "claimed_at": Int,
        "claimed_by_masterid": Int, "complete": Int, "complete_at": Int, "results": Int, "submitted_at": Int, "waited_for": Int,
        "retries": Int, "version": Int,
    ] unique &[], index &[
        &["complete", "buildrequestid"], &["buildsetid"], &["builderid", "buildrequestid"], &["submitted_at", "buildrequestid"],
    ];
    BUILDS = "builds" key 1 [
        "buildid": Int, "number": Int, "builderid": Int, "buildrequestid": Int, "workerid": Int, "masterid": Int,
        "started_at": Int, "complete": Int, "complete_at": Int, "locks_duration_s": Int, "results": Int, "state_string": Text,
        "version": Int,
    ] unique &[&["builderid", "number"]],
        index &[
            &["complete", "buildid"], &["buildrequestid"], &["workerid", "buildid"], &["results", "buildid"],
            &["started_at", "buildid"], &["builderid", "started_at", "buildid"], &["builderid", "results", "number"],
        ];
    BUILD_PROPERTIES = "build_properties" key 1 ["buildid": Int, "properties": Text] unique &[], index &[];
    STEPS = "steps" key 1 [
        "stepid": Int, "number": Int, "name": Text, "buildid": Int, "started_at": Int, "locks_acquired_at": Int, "complete": Int,
        "complete_at": Int, "results": Int, "state_string": Text, "urls": Text, "hidden": Int, "command": Text, "version": Int,
    ] unique &[&["buildid", "number"]], index &[];
    LOGS = "logs" key 1 [
        "logid": Int, "name": Text, "slug": Text, "stepid": Int, "complete": Int, "num_lines": Int, "type": Text, "version": Int,
    ] unique &[&["stepid", "slug"]], index &[&["complete", "logid"]];
    CONTROL_ACTS = "control_acts" key 1 [
        "controlid": Int, "identity": Text, "act_key": Text, "target": Text, "action": Text, "params": Text, "requested_at": Int,
        "answer": Text, "answered_at": Int, "version": Int, "came_from": Text,
    ] unique &[&["identity", "act_key"]], index &[&["answered_at", "controlid"], &["requested_at"]];
    CONFIGURATIONS = "configurations" key 1 [
        "configurationid": Int, "masterid": Int, "number": Int, "digest": Text, "cause": Text, "restores": Int, "who": Text,
        "created_at": Int, "difference": Text, "controlid": Int,
    ] unique &[&["masterid", "number"]], index &[];
    NOTIFIERS = "notifiers" key 1 ["notifierid": Int, "name": Text, "kind": Text, "masterid": Int, "version": Int]
        unique &[&["name"]], index &[];
    DELIVERIES = "deliveries" key 1 [
        "deliveryid": Int, "notifier": Text, "created_at": Int, "due_at": Int, "dedup_key": Text, "subject": Text,
        "buildid": Int, "notice": Text, "state": Text, "attempts": Int, "target": Text, "reason": Text, "settled_at": Int,
        "version": Int,
    ] unique &[&["notifier", "dedup_key"]], index &[&["notifier", "state", "deliveryid"]];
    BUILD_MARKS = "build_marks" key 1 [
        "buildid": Int, "pinned": Int, "pinned_by": Text, "pinned_at": Int, "logs_removed_at": Int,
    ] unique &[], index &[];
    REMOVED_LOGS = "removed_logs" key 1 ["logid": Int, "removed_at": Int] unique &[], index &[];
    LISTENERS = "listeners" key 1 ["name": Text, "clock": Text, "settings": Text] unique &[], index &[];
    WRITE_IDS = "write_ids" key 1 ["id": Blob, "at": Int, "outcome": Text] unique &[], index &[&["at"]];
    EVENTS = "events" key 2 ["masterid": Int, "seq": Int, "topic": Text, "body": Text, "at": Int] unique &[], index &[];
    // Clocks that contain all that their events build on, each under one of its heads.
    EVENT_CUTS = "event_cuts" key 2 ["masterid": Int, "seq": Int, "clock": Text] unique &[], index &[];
}

/// Whether a column of a history that lists are sorted by always has a value: said of nulls, an order would keep PostgreSQL from
/// using the column's index.
pub fn never_null(table: &str, column: &str) -> bool {
    matches!(
        (table, column),
        ("builds", "number" | "builderid" | "buildrequestid" | "workerid" | "started_at" | "complete")
            | (
                "buildrequests",
                "buildsetid" | "builderid" | "priority" | "submitted_at" | "complete" | "claimed"
            )
            | ("buildsets", "submitted_at" | "complete")
            | ("changes", "when_timestamp" | "repository" | "codebase" | "project" | "ssid")
            | ("sourcestamps", "created_at")
            | ("steps", "buildid" | "number" | "complete")
            | ("logs", "stepid" | "slug" | "complete")
    )
}

/// Log text, where it has no store of its own.
pub static LOG_SEGMENTS: Table = Table {
    name: "log_segments",
    columns: &[
        ("logid", Int),
        ("first", Int),
        ("lines", Int),
        ("bytes", Int),
        ("data", Blob),
        ("object", Int),
        ("object_at", Int),
        ("object_size", Int),
    ],
    key: 2,
    unique: &[],
    indexes: &[],
};

/// Objects of log text.
pub static LOG_OBJECTS: Table = Table {
    name: "log_objects",
    columns: &[
        ("logid", Int),
        ("objectid", Int),
        ("state", Int),
        ("size", Int),
        ("masterid", Int),
        ("epoch", Int),
    ],
    key: 2,
    unique: &[],
    indexes: &[],
};

/// Logs with text that is to leave for an object store.
pub static LOG_MOVES: Table = Table {
    name: "log_moves",
    columns: &[("logid", Int), ("masterid", Int), ("first", Int)],
    key: 1,
    unique: &[],
    indexes: &[],
};

/// The tables that stand where log text does.
pub static LOG_TABLES: &[&Table] = &[&LOG_SEGMENTS, &LOG_OBJECTS, &LOG_MOVES];

/// Who may write log text of a master.
pub static LOG_WRITERS: Table = Table {
    name: "log_writers",
    columns: &[("masterid", Int), ("epoch", Int)],
    key: 1,
    unique: &[],
    indexes: &[],
};
