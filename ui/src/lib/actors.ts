/** The live supervision tree, as `/api/v2/actors` reports it. */

export interface ActorExit {
  name: string;
  /** completed, stopped, failed, panicked, hung or killed. */
  ending: string;
  message: string;
  /** Seconds since the epoch. */
  at: number;
  /** How long that birth lived; null if it is not told. */
  livedMs: number | null;
  /** How long until the next birth ran; null if none does yet, or it is not told. */
  backMs: number | null;
}

/** A knob of the policy in force. */
export interface Knob {
  knob: string;
  value: string;
  /** Where it comes from. */
  origin: string;
}

export interface Actor {
  name: string;
  kind: string;
  parent: string | null;
  /** starting, running, backing-off, stopping, stopped or failed. */
  state: string;
  /** End of its backoff in seconds since the epoch; null if it does not back off. */
  until: number | null;
  /** Restarts within the period; a supervisor's: those of its children. */
  restarts: number;
  /** Restarts that are granted within the period: to all children of its supervisor, or to it alone. */
  intensity: number;
  /** Whether its restarts are counted by themselves. */
  ownIntensity: boolean;
  policy: Knob[];
  /** That period in seconds; 0 if it is not told. */
  periodS: number;
  births: number;
  /** Newest first. */
  exits: ActorExit[];
  queueDepth: number;
  queueBound: number;
  inFlight: number;
  /** How often it held its arbiter for over 100 ms. */
  stalls: number;
  /** For how long it has held its arbiter by now, in seconds; 0 if it does not. */
  heldS: number;
  /** Messages handled since the first birth. */
  messages: number;
  slowest: { name: string; ms: number } | null;
  /** What the actor says about itself. */
  observed: Record<string, unknown>;
}

type Raw = Record<string, unknown>;

function number(value: unknown): number {
  return typeof value === 'number' ? value : 0;
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

/** Seconds since the epoch from seconds, milliseconds or microseconds. */
function seconds(value: unknown): number {
  const at = number(value);
  if (at > 1e14) return at / 1e6;
  return at > 1e11 ? at / 1e3 : at;
}

function exit(raw: Raw): ActorExit {
  return { name: text(raw.name), ending: text(raw.ending ?? raw.kind), message: text(raw.message), at: seconds(raw.at), livedMs: milliseconds(raw.lived_ms), backMs: milliseconds(raw.back_ms) };
}

function milliseconds(value: unknown): number | null {
  return typeof value === 'number' ? value : null;
}

/** Milliseconds as settings write them. */
function span(ms: number): string {
  if (ms % 60_000 === 0) return `${ms / 60_000}m`;
  return ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`;
}

/** The knobs in force, as they are called in settings. */
function policy(raw: Raw): Knob[] {
  const own = (raw.policy ?? {}) as Raw;
  const origins = (raw.origins ?? {}) as Raw;
  const period = number(raw.period_ms);
  const rows: [string, string][] = [
    ['restart', text(own.restart)],
    ['strategy', text(raw.strategy)],
    ['intensity', typeof raw.intensity === 'number' ? String(raw.intensity) : ''],
    ['period', period > 0 ? span(period) : ''],
    ['backoff', text(own['backoff-min']) === '' ? '' : `${text(own['backoff-min'])} to ${text(own['backoff-max'])}`],
    ['grace', text(own.grace)],
    ['hang-after', text(own['hang-after'])],
  ];
  return rows.filter(([, value]) => value !== '').map(([knob, value]) => ({ knob, value, origin: text(origins[knob]) || 'built in' }));
}

/** Reads one report; what is missing counts as nothing, so that an older or newer master is still shown. */
export function readActor(raw: Raw): Actor {
  const exits = ((raw.last_exits ?? raw.exits ?? []) as Raw[]).map(exit).sort((a, b) => b.at - a.at);
  const slowest = (raw.slowest_handler ?? raw.slowest) as Raw | null | undefined;
  const observed = raw.observe ?? raw.observed;
  return {
    name: text(raw.name),
    kind: text(raw.kind),
    parent: typeof raw.parent === 'string' ? raw.parent : null,
    state: text(raw.state),
    until: typeof raw.until === 'number' ? seconds(raw.until) : null,
    restarts: number(raw.restarts),
    intensity: number(raw.intensity),
    ownIntensity: raw.own_intensity === true,
    policy: policy(raw),
    periodS: number(raw.period_ms) / 1000,
    births: number(raw.births),
    exits,
    queueDepth: number(raw.queue_depth),
    queueBound: number(raw.queue_bound),
    inFlight: number(raw.in_flight),
    stalls: number(raw.stalls),
    heldS: number(raw.held_ms) / 1000,
    messages: number(raw.messages ?? raw.handled),
    slowest: slowest ? { name: text(slowest.name ?? slowest.message), ms: number(slowest.ms) } : null,
    observed: observed !== null && typeof observed === 'object' ? (observed as Record<string, unknown>) : {},
  };
}

const HOUR_S = 3600;
const SLOW_MS = 100;

/** Why an actor needs a look; empty when it is well. The exits of a supervisor are those of its children, and count there. */
export function ailments(actor: Actor, now: number): string[] {
  const found: string[] = [];
  if (actor.state !== 'running') found.push(actor.state);
  if (actor.heldS > 0) found.push('blocks its thread');
  const own = actor.kind === 'supervisor' ? [] : actor.exits;
  const recent = own.filter((one) => isBad(one) && now - one.at < HOUR_S).length;
  if (recent > 0) found.push(`restarted ${recent} × in the last hour`);
  if (actor.queueBound > 0 && actor.queueDepth > 0.8 * actor.queueBound) found.push('queue over 80 %');
  if (actor.slowest !== null && actor.slowest.ms > SLOW_MS) found.push(`a handler took ${Math.round(actor.slowest.ms)} ms`);
  return found;
}

export function isBad(exit: ActorExit): boolean {
  return exit.ending !== 'completed' && exit.ending !== 'stopped';
}

/** Parents before their children, with the depth of each; orphans stand at the top. */
export function asTree(actors: readonly Actor[]): { actor: Actor; depth: number }[] {
  const names = new Set(actors.map((actor) => actor.name));
  const children = new Map<string | null, Actor[]>();
  for (const actor of actors) {
    const parent = actor.parent !== null && names.has(actor.parent) && actor.parent !== actor.name ? actor.parent : null;
    children.set(parent, [...(children.get(parent) ?? []), actor]);
  }
  const rows: { actor: Actor; depth: number }[] = [];
  const seen = new Set<string>();
  const walk = (parent: string | null, depth: number) => {
    for (const actor of children.get(parent) ?? []) {
      if (seen.has(actor.name)) continue;
      seen.add(actor.name);
      rows.push({ actor, depth });
      walk(actor.name, depth + 1);
    }
  };
  walk(null, 0);
  return rows;
}
