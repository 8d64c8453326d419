/** Entities as the REST contract gives them. Times are whole Unix seconds. */

export interface Builder {
  builderid: number;
  name: string;
  description: string | null;
  masterids: number[];
  tags: string[];
}

/** Property name to [value, source]. */
export type Properties = Record<string, [unknown, string]>;

export interface Build {
  buildid: number;
  number: number;
  builderid: number;
  buildrequestid: number;
  workerid: number;
  masterid: number;
  started_at: number;
  complete: boolean;
  complete_at: number | null;
  locks_duration_s: number;
  results: number | null;
  state_string: string;
  properties: Properties;
}

export interface Step {
  stepid: number;
  number: number;
  name: string;
  buildid: number;
  started_at: number | null;
  locks_acquired_at: number | null;
  complete: boolean;
  complete_at: number | null;
  results: number | null;
  state_string: string;
  urls: { name: string; url: string }[];
  hidden: boolean;
}

export interface Log {
  logid: number;
  name: string;
  slug: string;
  stepid: number;
  complete: boolean;
  num_lines: number;
  /** `s` stdio with a stream letter before each line, `t` plain text, `h` HTML. */
  type: string;
}

export interface BuildRequest {
  buildrequestid: number;
  buildsetid: number;
  builderid: number;
  priority: number;
  claimed: boolean;
  claimed_at: number | null;
  complete: boolean;
  complete_at: number | null;
  results: number;
  submitted_at: number;
  waited_for: boolean;
  properties: Properties | null;
}

export interface SourceStamp {
  ssid: number;
  branch: string | null;
  revision: string | null;
  project: string;
  repository: string;
  codebase: string;
}

export interface Buildset {
  bsid: number;
  reason: string;
  submitted_at: number;
  complete: boolean;
  results: number | null;
  parent_buildid: number | null;
  rebuilt_buildid: number | null;
  sourcestamps: SourceStamp[];
}

export interface Change {
  changeid: number;
  author: string;
  comments: string;
  branch: string | null;
  revision: string | null;
  revlink: string | null;
  when_timestamp: number;
  files: string[];
  repository: string;
}

export interface Worker {
  workerid: number;
  name: string;
  workerinfo: { admin?: string | null; host?: string | null; version?: string | null };
  paused: boolean;
  pause_reason: string | null;
  graceful: boolean;
  connected_to: { masterid: number }[];
  configured_on: { masterid: number; builderid: number }[];
}

export interface Master {
  masterid: number;
  name: string;
  active: boolean;
  last_active: number;
}

export interface Scheduler {
  schedulerid: number;
  name: string;
  enabled: boolean;
  master: Master | null;
}

/** One field of a force form; `nested` holds others. */
export interface FieldSpec {
  type: string;
  name: string;
  fullName: string | null;
  label: string;
  tablabel: string;
  tooltip: string;
  default: unknown;
  hide: boolean;
  required: boolean;
  multiple: boolean;
  regex: string | null;
  maxsize: number | null;
  size?: number;
  rows?: number;
  cols?: number;
  need_email?: boolean;
  choices?: string[];
  strict?: boolean;
  layout?: string;
  columns?: number;
  fields?: FieldSpec[];
}

export interface ForceScheduler {
  name: string;
  button_name: string;
  label: string;
  builder_names: string[];
  enabled: boolean;
  all_fields: FieldSpec[];
}

/** Who tells people or other systems. */
export interface Notifier {
  notifierid: number;
  name: string;
  kind: string;
  /** The master that runs it; null: it is gone from the configuration. */
  masterid: number | null;
}

export type DeliveryState = 'waiting' | 'sent' | 'failed' | 'dropped' | 'silenced';

/** A notifier's message. */
export interface Delivery {
  deliveryid: number;
  notifier: string;
  created_at: number;
  /** Not to be sent, or tried again, before. */
  due_at: number;
  subject: string;
  buildid: number | null;
  state: DeliveryState;
  attempts: number;
  target: string | null;
  reason: string | null;
  settled_at: number | null;
}

export type ChangeKind = 'added' | 'removed' | 'changed';

export interface KeyChange {
  key: string;
  change: ChangeKind;
  /** JSON, shortened; a secret has neither. */
  from?: string;
  to?: string;
  secret?: boolean;
}

/** One section, or one table of a section, that differs. */
export interface ComponentChange {
  section: string;
  name?: string;
  change: ChangeKind;
  keys?: KeyChange[];
  more_keys?: number;
}

/** What a configuration changes of the one before. */
export interface Difference {
  components: ComponentChange[];
  more?: number;
}

/** A version of a master's configuration; the newest is in force. */
export interface ConfigurationVersion {
  configurationid: number;
  masterid: number;
  number: number;
  cause: 'start' | 'reload' | 'rollback';
  /** The number that was taken back. */
  restores: number | null;
  who: string;
  created_at: number;
  difference: Difference | null;
  digest: string;
}

/** How the last reload of a master went. */
export interface ReloadState {
  number: number;
  refused_at: number | null;
  /** The faults, as `greenroom check` shows them. */
  refusal: string | null;
  next_start: string[];
}

/** The state or result of anything that is drawn with an icon. */
export type Outcome =
  | 'success'
  | 'warnings'
  | 'failure'
  | 'skipped'
  | 'exception'
  | 'retry'
  | 'cancelled'
  | 'running'
  | 'pending';

const RESULTS: Outcome[] = ['success', 'warnings', 'failure', 'skipped', 'exception', 'retry', 'cancelled'];

/** The result behind a number of the contract; what has none yet is `pending`. */
export function resultOf(code: number | null | undefined): Outcome {
  return RESULTS[code ?? -1] ?? 'pending';
}

/** The result of a build, or `running`. */
export function buildOutcome(build: Pick<Build, 'complete' | 'results'>): Outcome {
  return build.complete ? resultOf(build.results) : 'running';
}

/** The result of a step, or whether it runs or has not begun. */
export function stepOutcome(step: Pick<Step, 'complete' | 'results' | 'started_at'>): Outcome {
  if (step.complete) return resultOf(step.results);
  return step.started_at === null ? 'pending' : 'running';
}

/** Failure and exception: what "broken" means. */
export function isBroken(outcome: Outcome): boolean {
  return outcome === 'failure' || outcome === 'exception';
}

/** How bad an outcome is, worst highest: for "worst of" and "broken first". */
export function badness(outcome: Outcome): number {
  return ['pending', 'skipped', 'cancelled', 'success', 'running', 'retry', 'warnings', 'failure', 'exception'].indexOf(
    outcome,
  );
}

/** A property as text, or an empty string. */
export function propertyText(properties: Properties | null | undefined, name: string): string {
  const value = properties?.[name]?.[0];
  if (value === null || value === undefined) return '';
  if (Array.isArray(value)) return value.map(String).join(', ');
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** Who a build is for: the owners, else the owner; the mail address is left out. */
export function ownerOf(properties: Properties | null | undefined): string {
  const text = propertyText(properties, 'owners') || propertyText(properties, 'owner');
  return shortAuthor(text);
}

/** "Ada Lovelace <ada@example.org>" without the address. */
export function shortAuthor(text: string): string {
  return text.replace(/\s*<[^>]*>/g, '').trim();
}

/** The first seven characters of a hexadecimal revision; others whole. */
export function shortRevision(text: string): string {
  return /^[0-9a-f]{12,}$/i.test(text) ? text.slice(0, 7) : text;
}

/** The revision that a build was made of. */
export function revisionOf(properties: Properties | null | undefined): string {
  return shortRevision(propertyText(properties, 'got_revision') || propertyText(properties, 'revision'));
}
