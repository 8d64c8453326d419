//! The public form of entities, as REST and events show them: field names, whole seconds, `null`s.
//!
//! Rendered once per change and shared: text, not a tree. Keys are sorted and non-ASCII characters are escaped, as
//! stock clients have always seen them.

use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CharEscape, Formatter, Serializer};

use crate::entities::*;
use crate::event::Record;
use crate::ids::{BuilderId, MasterId};
use crate::properties::{Properties, Property};
use crate::time::Timestamp;

/// What an entity's public form needs to know of other entities.
pub trait Lookup {
    /// The master of that id (a scheduler shows its master whole).
    fn master(&self, id: MasterId) -> Option<std::sync::Arc<Master>>;
}

/// Knows no other entity.
pub struct NoLookup;

impl Lookup for NoLookup {
    fn master(&self, _: MasterId) -> Option<std::sync::Arc<Master>> {
        None
    }
}

/// Compact JSON with sorted keys (if `value`'s fields are) and escaped non-ASCII characters.
pub fn to_json(value: &impl Serialize) -> String {
    let mut out = Vec::with_capacity(256);
    let done = value.serialize(&mut Serializer::with_formatter(&mut out, Ascii));
    match (done, String::from_utf8(out)) {
        (Ok(()), Ok(text)) => text,
        // Unreachable for the types of this module; a null is the honest answer of a renderer that cannot fail.
        _ => "null".to_owned(),
    }
}

struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if fragment.is_ascii() {
            return writer.write_all(fragment.as_bytes());
        }
        for c in fragment.chars() {
            if c.is_ascii() {
                writer.write_all(&[c as u8])?;
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        let text: &[u8] = match escape {
            CharEscape::Quote => b"\\\"",
            CharEscape::ReverseSolidus => b"\\\\",
            CharEscape::Solidus => b"\\/",
            CharEscape::Backspace => b"\\b",
            CharEscape::FormFeed => b"\\f",
            CharEscape::LineFeed => b"\\n",
            CharEscape::CarriageReturn => b"\\r",
            CharEscape::Tab => b"\\t",
            CharEscape::AsciiControl(byte) => return write!(writer, "\\u{byte:04x}"),
        };
        writer.write_all(text)
    }
}

/// The public form of a record, as JSON text.
pub fn render(record: &Record, lookup: &dyn Lookup) -> String {
    match record {
        Record::Master(e) => to_json(&MasterForm::of(e)),
        Record::Builder(e) => to_json(&builder(e)),
        Record::Worker(e) => to_json(&worker(e)),
        Record::Scheduler(e) => to_json(&scheduler(e, lookup)),
        Record::ChangeSource(e) => to_json(&change_source(e, lookup)),
        Record::Project(e) => to_json(&project(e)),
        Record::Change(e) => to_json(&change(e)),
        Record::Buildset(e) => {
            to_json(&BuildsetEvent { form: buildset(e), scheduler: e.scheduler.as_deref() })
        }
        Record::BuildRequest(e) => to_json(&request(e, None)),
        Record::Build(e) => to_json(&build(e, &Properties::new())),
        Record::BuildProperties(e) => to_json(&e.changed),
        Record::Step(e) => to_json(&step(e)),
        Record::Log(e) => to_json(&log(e)),
        Record::Control(e) => to_json(&control(e)),
        Record::Configuration(e) => to_json(&configuration(e)),
        Record::Notifier(e) => to_json(&notifier(e)),
        Record::Delivery(e) => to_json(&delivery(e)),
    }
}

fn seconds(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::seconds)
}

/// The public form of a master.
#[derive(Serialize)]
pub struct MasterForm<'a> {
    active: bool,
    last_active: i64,
    masterid: i64,
    name: &'a str,
}

impl<'a> MasterForm<'a> {
    fn of(e: &'a Master) -> Self {
        Self { active: e.active, last_active: e.last_active.seconds(), masterid: e.id.0, name: &e.name }
    }
}

/// The public form of a master.
pub fn master(e: &Master) -> impl Serialize + '_ {
    MasterForm::of(e)
}

#[derive(Serialize)]
struct BuilderForm<'a> {
    builderid: i64,
    description: Option<&'a str>,
    description_format: Option<&'a str>,
    description_html: Option<&'a str>,
    masterids: Vec<i64>,
    name: &'a str,
    projectid: Option<i64>,
    tags: &'a [String],
}

/// The public form of a builder.
pub fn builder(e: &Builder) -> impl Serialize + '_ {
    BuilderForm {
        builderid: e.id.0,
        description: e.description.as_deref(),
        description_format: None,
        description_html: None,
        masterids: e.masters.iter().map(|m| m.0).collect(),
        name: &e.name,
        projectid: e.project.map(|p| p.0),
        tags: &e.tags,
    }
}

#[derive(Serialize)]
struct OnMaster {
    masterid: i64,
}

#[derive(Serialize)]
struct OnBuilder {
    builderid: i64,
    masterid: i64,
}

#[derive(Serialize)]
struct InfoForm<'a> {
    access_uri: Option<&'a str>,
    admin: Option<&'a str>,
    host: Option<&'a str>,
    version: Option<&'a str>,
}

#[derive(Serialize)]
struct WorkerForm<'a> {
    configured_on: Vec<OnBuilder>,
    connected_to: Vec<OnMaster>,
    graceful: bool,
    name: &'a str,
    pause_reason: Option<&'a str>,
    paused: bool,
    workerid: i64,
    workerinfo: Either<InfoForm<'a>, Empty>,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
#[serde(untagged)]
enum Either<A, B> {
    A(A),
    B(B),
}

/// The public form of a worker.
pub fn worker(e: &Worker) -> impl Serialize + '_ {
    WorkerForm {
        configured_on: e
            .configured_on
            .iter()
            .map(|(MasterId(masterid), BuilderId(builderid))| OnBuilder {
                builderid: *builderid,
                masterid: *masterid,
            })
            .collect(),
        connected_to: e.connected_to.iter().map(|m| OnMaster { masterid: m.0 }).collect(),
        graceful: e.graceful,
        name: &e.name,
        pause_reason: e.pause_reason.as_deref(),
        paused: e.paused,
        workerid: e.id.0,
        workerinfo: match &e.info {
            Some(i) => Either::A(InfoForm {
                access_uri: i.access_uri.as_deref(),
                admin: i.admin.as_deref(),
                host: i.host.as_deref(),
                version: i.version.as_deref(),
            }),
            None => Either::B(Empty {}),
        },
    }
}

#[derive(Serialize)]
struct SchedulerForm<'a> {
    enabled: bool,
    master: Option<Value>,
    name: &'a str,
    schedulerid: i64,
}

fn master_value(id: Option<MasterId>, lookup: &dyn Lookup) -> Option<Value> {
    id.and_then(|id| lookup.master(id)).and_then(|m| serde_json::to_value(MasterForm::of(&m)).ok())
}

/// The public form of a scheduler.
pub fn scheduler<'a>(e: &'a Scheduler, lookup: &dyn Lookup) -> impl Serialize + 'a {
    SchedulerForm {
        enabled: e.enabled,
        master: master_value(e.master, lookup),
        name: &e.name,
        schedulerid: e.id.0,
    }
}

#[derive(Serialize)]
struct ChangeSourceForm<'a> {
    changesourceid: i64,
    master: Option<Value>,
    name: &'a str,
}

/// The public form of a change source.
pub fn change_source<'a>(e: &'a ChangeSource, lookup: &dyn Lookup) -> impl Serialize + 'a {
    ChangeSourceForm { changesourceid: e.id.0, master: master_value(e.master, lookup), name: &e.name }
}

#[derive(Serialize)]
struct ProjectForm<'a> {
    active: Option<bool>,
    description: Option<&'a str>,
    description_format: Option<&'a str>,
    description_html: Option<&'a str>,
    name: &'a str,
    projectid: i64,
    slug: &'a str,
}

/// The public form of a project.
pub fn project(e: &Project) -> impl Serialize + '_ {
    ProjectForm {
        active: None,
        description: e.description.as_deref(),
        description_format: None,
        description_html: None,
        name: &e.name,
        projectid: e.id.0,
        slug: &e.name,
    }
}

#[derive(Serialize)]
struct PatchForm<'a> {
    author: &'a str,
    body: &'a str,
    comment: &'a str,
    level: i64,
    patchid: i64,
    subdir: &'a str,
}

#[derive(Serialize)]
struct StampForm<'a> {
    branch: Option<&'a str>,
    codebase: &'a str,
    created_at: i64,
    patch: Option<PatchForm<'a>>,
    project: &'a str,
    repository: &'a str,
    revision: Option<&'a str>,
    ssid: i64,
}

fn stamp_form(e: &SourceStamp) -> StampForm<'_> {
    StampForm {
        branch: e.branch.as_deref(),
        codebase: &e.codebase,
        created_at: e.created_at.seconds(),
        patch: e.patch.as_ref().map(|p| PatchForm {
            author: &p.author,
            body: &p.body,
            comment: &p.comment,
            level: p.level,
            patchid: p.id.0,
            subdir: &p.subdir,
        }),
        project: &e.project,
        repository: &e.repository,
        revision: e.revision.as_deref(),
        ssid: e.id.0,
    }
}

/// The public form of a source stamp.
pub fn sourcestamp(e: &SourceStamp) -> impl Serialize + '_ {
    stamp_form(e)
}

#[derive(Serialize)]
struct ChangeForm<'a> {
    author: &'a str,
    branch: Option<&'a str>,
    category: Option<&'a str>,
    changeid: i64,
    codebase: &'a str,
    comments: &'a str,
    committer: Option<&'a str>,
    files: &'a [String],
    parent_changeids: Vec<i64>,
    project: &'a str,
    properties: &'a Properties,
    repository: &'a str,
    revision: Option<&'a str>,
    revlink: Option<&'a str>,
    sourcestamp: StampForm<'a>,
    when_timestamp: i64,
}

/// The public form of a change.
pub fn change(e: &Change) -> impl Serialize + '_ {
    ChangeForm {
        author: &e.author,
        branch: e.branch.as_deref(),
        category: e.category.as_deref(),
        changeid: e.id.0,
        codebase: &e.codebase,
        comments: &e.comments,
        committer: e.committer.as_deref(),
        files: &e.files,
        parent_changeids: e.parents.iter().map(|p| p.0).collect(),
        project: &e.project,
        properties: &e.properties,
        repository: &e.repository,
        revision: e.revision.as_deref(),
        revlink: e.revlink.as_deref(),
        sourcestamp: stamp_form(&e.sourcestamp),
        when_timestamp: e.when.seconds(),
    }
}

#[derive(Serialize)]
struct BuildsetForm<'a> {
    bsid: i64,
    complete: bool,
    complete_at: Option<i64>,
    external_idstring: Option<&'a str>,
    parent_buildid: Option<i64>,
    parent_relationship: Option<&'a str>,
    reason: &'a str,
    rebuilt_buildid: Option<i64>,
    results: Option<i64>,
    sourcestamps: Vec<StampForm<'a>>,
    submitted_at: i64,
}

/// Events show the scheduler too.
#[derive(Serialize)]
struct BuildsetEvent<'a, F: Serialize> {
    #[serde(flatten)]
    form: F,
    scheduler: Option<&'a str>,
}

/// The public form of a buildset.
pub fn buildset(e: &Buildset) -> impl Serialize + '_ {
    BuildsetForm {
        bsid: e.id.0,
        complete: e.complete_at.is_some(),
        complete_at: seconds(e.complete_at),
        external_idstring: e.external_id.as_deref(),
        parent_buildid: e.parent_build.map(|b| b.0),
        parent_relationship: e.parent_relationship.as_deref(),
        reason: &e.reason,
        rebuilt_buildid: e.rebuilt_build.map(|b| b.0),
        results: e.results.map(|r| r.code()),
        sourcestamps: e.sourcestamps.iter().map(|s| stamp_form(s)).collect(),
        submitted_at: e.submitted_at.seconds(),
    }
}

#[derive(Serialize)]
struct RequestForm<'a> {
    builderid: i64,
    buildrequestid: i64,
    buildsetid: i64,
    claimed: bool,
    claimed_at: Option<i64>,
    claimed_by_masterid: Option<i64>,
    complete: bool,
    complete_at: Option<i64>,
    priority: i64,
    properties: Option<&'a Properties>,
    results: i64,
    submitted_at: i64,
    waited_for: bool,
}

/// The public form of a build request; properties only if they were asked for.
pub fn request<'a>(e: &'a BuildRequest, properties: Option<&'a Properties>) -> impl Serialize + 'a {
    RequestForm {
        builderid: e.builder.0,
        buildrequestid: e.id.0,
        buildsetid: e.buildset.0,
        claimed: e.claimed_at.is_some(),
        claimed_at: seconds(e.claimed_at),
        claimed_by_masterid: e.claimed_by.map(|m| m.0),
        complete: e.complete_at.is_some(),
        complete_at: seconds(e.complete_at),
        priority: e.priority,
        properties,
        results: e.results.map_or(-1, |r| r.code()),
        submitted_at: e.submitted_at.seconds(),
        waited_for: e.waited_for,
    }
}

#[derive(Serialize)]
struct BuildForm<'a> {
    builderid: i64,
    buildid: i64,
    buildrequestid: i64,
    complete: bool,
    complete_at: Option<i64>,
    locks_duration_s: i64,
    masterid: i64,
    number: i64,
    properties: &'a Properties,
    results: Option<i64>,
    started_at: i64,
    state_string: &'a str,
    workerid: i64,
}

/// The public form of a build with those properties that were asked for.
pub fn build<'a>(e: &'a Build, properties: &'a Properties) -> impl Serialize + 'a {
    BuildForm {
        builderid: e.builder.0,
        buildid: e.id.0,
        buildrequestid: e.request.0,
        complete: e.complete_at.is_some(),
        complete_at: seconds(e.complete_at),
        locks_duration_s: e.locks_duration_s,
        masterid: e.master.0,
        number: e.number,
        properties,
        results: e.results.map(|r| r.code()),
        started_at: e.started_at.seconds(),
        state_string: &e.state_string,
        workerid: e.worker.0,
    }
}

#[derive(Serialize)]
struct StepForm<'a> {
    buildid: i64,
    complete: bool,
    complete_at: Option<i64>,
    hidden: bool,
    locks_acquired_at: Option<i64>,
    name: &'a str,
    number: i64,
    results: Option<i64>,
    started_at: Option<i64>,
    state_string: &'a str,
    stepid: i64,
    urls: &'a [Url],
}

/// The public form of a step.
pub fn step(e: &Step) -> impl Serialize + '_ {
    StepForm {
        buildid: e.build.0,
        complete: e.complete_at.is_some(),
        complete_at: seconds(e.complete_at),
        hidden: e.hidden,
        locks_acquired_at: seconds(e.locks_acquired_at),
        name: &e.name,
        number: e.number,
        results: e.results.map(|r| r.code()),
        started_at: seconds(e.started_at),
        state_string: &e.state_string,
        stepid: e.id.0,
        urls: &e.urls,
    }
}

#[derive(Serialize)]
struct LogForm<'a> {
    complete: bool,
    logid: i64,
    name: &'a str,
    num_lines: i64,
    slug: &'a str,
    stepid: i64,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// The public form of a log.
pub fn log(e: &Log) -> impl Serialize + '_ {
    LogForm {
        complete: e.complete,
        logid: e.id.0,
        name: &e.name,
        num_lines: e.num_lines,
        slug: &e.slug,
        stepid: e.step.0,
        kind: e.kind.letter(),
    }
}

#[derive(Serialize)]
struct ConfigurationForm<'a> {
    cause: &'static str,
    configurationid: i64,
    created_at: i64,
    difference: &'a Value,
    digest: &'a str,
    masterid: i64,
    number: i64,
    restores: Option<i64>,
    who: &'a str,
}

/// The public form of a version of a configuration.
pub fn configuration(e: &ConfigurationVersion) -> impl Serialize + '_ {
    ConfigurationForm {
        cause: e.cause.word(),
        configurationid: e.id.0,
        created_at: e.created_at.seconds(),
        difference: &e.difference,
        digest: &e.digest,
        masterid: e.master.0,
        number: e.number,
        restores: e.restores,
        who: &e.who,
    }
}

#[derive(Serialize)]
struct NotifierForm<'a> {
    kind: &'a str,
    masterid: Option<i64>,
    name: &'a str,
    notifierid: i64,
}

/// The public form of a notifier.
pub fn notifier(e: &Notifier) -> impl Serialize + '_ {
    NotifierForm { kind: &e.kind, masterid: e.master.map(|m| m.0), name: &e.name, notifierid: e.id.0 }
}

#[derive(Serialize)]
struct DeliveryForm<'a> {
    attempts: i64,
    buildid: Option<i64>,
    created_at: i64,
    dedup_key: &'a str,
    deliveryid: i64,
    due_at: i64,
    notifier: &'a str,
    reason: Option<&'a str>,
    settled_at: Option<i64>,
    state: &'static str,
    subject: &'a str,
    target: Option<&'a str>,
}

/// The public form of a notifier's message.
pub fn delivery(e: &Delivery) -> impl Serialize + '_ {
    DeliveryForm {
        attempts: e.attempts,
        buildid: e.build.map(|b| b.0),
        created_at: e.created_at.seconds(),
        dedup_key: &e.dedup_key,
        deliveryid: e.id.0,
        due_at: e.due_at.seconds(),
        notifier: &e.notifier,
        reason: e.reason.as_deref(),
        settled_at: e.settled_at.map(Timestamp::seconds),
        state: e.state.word(),
        subject: &e.subject,
        target: e.target.as_deref(),
    }
}

#[derive(Serialize)]
struct ControlForm<'a> {
    reason: &'a str,
}

/// The public form of a control event: the reason, no more.
fn control(e: &ControlAct) -> impl Serialize + '_ {
    ControlForm { reason: e.params.get("reason").and_then(Value::as_str).unwrap_or("") }
}

#[derive(Serialize)]
struct AuditForm<'a> {
    act_key: Option<&'a str>,
    action: &'a str,
    answer: Option<&'a ControlAnswer>,
    answered_at: Option<i64>,
    came_from: Option<&'a str>,
    controlid: i64,
    identity: &'a str,
    params: Value,
    requested_at: i64,
    target: String,
}

/// The public form of a control act in the audit log: parameters whose name says that they are secret are left out.
pub fn audit(e: &ControlAct) -> impl Serialize + '_ {
    AuditForm {
        act_key: e.key.as_deref(),
        action: &e.action,
        answer: e.answer.as_ref(),
        answered_at: e.answered_at.map(Timestamp::seconds),
        came_from: e.came_from.as_deref(),
        controlid: e.id.0,
        identity: &e.identity,
        params: without_secrets(&e.params),
        requested_at: e.requested_at.seconds(),
        target: e.target.path(),
    }
}

/// What stands for the value of a secret parameter.
const HIDDEN: &str = "***";
/// A parameter with one of these in its name is secret.
const SECRET_WORDS: [&str; 7] =
    ["password", "passwd", "passphrase", "secret", "token", "credential", "private"];

fn without_secrets(value: &Value) -> Value {
    let secret = |name: &str| {
        let name = name.to_ascii_lowercase().replace(['-', '_', ' '], "");
        SECRET_WORDS.iter().any(|word| name.contains(word)) || name.ends_with("apikey")
    };
    match value {
        Value::Object(map) => {
            let shown = |(name, value): (&String, &Value)| {
                let value = if secret(name) { HIDDEN.into() } else { without_secrets(value) };
                (name.clone(), value)
            };
            Value::Object(map.iter().map(shown).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_secrets).collect()),
        plain => plain.clone(),
    }
}

#[derive(Serialize)]
struct PropertyRow<'a> {
    name: &'a str,
    source: &'a str,
    value: String,
}

/// Properties as a list of rows, each value as JSON text.
pub fn property_list(properties: &Properties) -> Vec<impl Serialize + '_> {
    properties
        .iter()
        .map(|(name, Property(value, source))| PropertyRow { name, source, value: value.to_string() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_compact_and_ascii() {
        let value = serde_json::json!({"a": "h\u{e9} \"\u{1f600}\"\n", "b": [1, null]});
        assert_eq!(to_json(&value), "{\"a\":\"h\\u00e9 \\\"\\ud83d\\ude00\\\"\\n\",\"b\":[1,null]}");
        assert_eq!(serde_json::from_str::<Value>(&to_json(&value)).unwrap(), value);
    }
}
