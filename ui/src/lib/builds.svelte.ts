import type { Build, Properties } from './model';
import { summarize, type BuilderSummary } from './summary';
import { Table } from './paint.svelte';

/** How many finished builds are kept of each builder. */
export const KEPT_PER_BUILDER = 20;
/** How many of the builds that finished last are kept over all builders. */
export const KEPT_RECENT = 60;
/** Properties that came before their build; more than this many are not kept. */
const KEPT_EARLY = 200;

/** The build properties that lists show. */
export const SHOWN_PROPERTIES = [
  'branch',
  'revision',
  'got_revision',
  'owner',
  'owners',
  'workername',
  'reason',
  'scheduler',
] as const;

/** A build as the summary of its builder tells of it. */
export interface Line {
  buildid: number;
  number: number;
  workerid: number;
  started_at: number;
  complete_at: number | null;
  results: number | null;
  state_string: string;
  branch: string | null;
  revision: string | null;
  author: string | null;
  what: string;
}

/** The build behind a line; what it does not tell of stays empty. */
export function fromLine(builderid: number, line: Line): Build {
  const properties: Properties = { reason: [line.what, 'summary'] };
  if (line.branch !== null) properties.branch = [line.branch, 'summary'];
  if (line.revision !== null) properties.revision = [line.revision, 'summary'];
  if (line.author !== null) properties.owner = [line.author, 'summary'];
  const { buildid, number, workerid, started_at, complete_at, results, state_string } = line;
  const known = { buildid, number, workerid, started_at, complete_at, results, state_string };
  return { ...known, builderid, buildrequestid: 0, masterid: 0, complete: complete_at !== null, locks_duration_s: 0, properties };
}

/**
 * The newest builds of every builder: all that run, the last 20 that finished, and what finished
 * last anywhere. Older ones are dropped, so memory does not grow with the farm's age.
 */
export class Builds extends Table<Build> {
  #byBuilder = new Map<number, Build[]>();
  #recent: Build[] = [];
  #running = new Map<number, Build>();
  #summaries = new Map<number, BuilderSummary>();
  #early = new Map<number, Properties>();

  override replaceAll(entities: Iterable<readonly [number, Build]>): void {
    this.#byBuilder.clear();
    this.#recent = [];
    this.#running.clear();
    this.#summaries.clear();
    super.replaceAll([]);
    for (const [id, build] of entities) this.put(id, build);
    this.flush();
  }

  /** Takes a build whole, but for its properties, which events leave out. */
  override put(id: number, build: Build): void {
    const known = this.peek(id)?.properties ?? this.#early.get(id);
    this.#early.delete(id);
    const merged = known === undefined ? build : { ...build, properties: { ...known, ...build.properties } };
    super.put(id, merged);
    this.#index(merged);
  }

  /** Retention has taken a build. */
  remove(id: number): void {
    const others = (builds: readonly Build[]) => builds.filter((other) => other.buildid !== id);
    // What its builder has pruned may be among these yet.
    this.#recent = others(this.#recent);
    this.#running.delete(id);
    this.touch();
    const build = this.peek(id);
    if (build === undefined) return;
    this.#summaries.delete(build.builderid);
    this.#byBuilder.set(build.builderid, others(this.#byBuilder.get(build.builderid) ?? []));
    this.delete(id);
  }

  mergeProperties(id: number, properties: Properties): void {
    const shown = pick(properties);
    const build = this.peek(id);
    if (build !== undefined) {
      this.put(id, { ...build, properties: { ...build.properties, ...shown } });
      return;
    }
    this.#early.set(id, { ...this.#early.get(id), ...shown });
    const oldest = this.#early.keys().next().value;
    if (this.#early.size > KEPT_EARLY && oldest !== undefined) this.#early.delete(oldest);
  }

  /** Running builds, in the order in which they began. */
  running(): Build[] {
    void this.size;
    return [...this.#running.values()];
  }

  /** What finished last, newest first. */
  recent(): Build[] {
    void this.size;
    return this.#recent;
  }

  /** State of a builder from its known builds; the same object until one of them changes. */
  summary(builderid: number): BuilderSummary {
    void this.size;
    let summary = this.#summaries.get(builderid);
    if (summary === undefined) {
      summary = summarize(this.#byBuilder.get(builderid) ?? []);
      this.#summaries.set(builderid, summary);
    }
    return summary;
  }

  #index(build: Build): void {
    this.#summaries.delete(build.builderid);
    if (build.complete) {
      this.#running.delete(build.buildid);
      this.#recent = insert(this.#recent, build, (other) => finishedAfter(build, other));
      this.#recent.length = Math.min(this.#recent.length, KEPT_RECENT);
    } else {
      this.#running.set(build.buildid, build);
    }
    const before = this.#byBuilder.get(build.builderid) ?? [];
    const builds = insert(before, build, (other) => build.number > other.number);
    this.#byBuilder.set(build.builderid, this.#prune(builds));
  }

  #prune(builds: Build[]): Build[] {
    let finished = 0;
    return builds.filter((build) => {
      if (!build.complete || ++finished <= KEPT_PER_BUILDER) return true;
      this.delete(build.buildid);
      return false;
    });
  }
}

function pick(properties: Properties): Properties {
  const shown: Properties = {};
  for (const name of SHOWN_PROPERTIES) {
    const value = properties[name];
    if (value !== undefined) shown[name] = value;
  }
  return shown;
}

function finishedAfter(build: Build, other: Build): boolean {
  const [a, b] = [build.complete_at ?? 0, other.complete_at ?? 0];
  return a > b || (a === b && build.buildid > other.buildid);
}

/** A copy with `build` in the place that `before` names, and its older version gone. */
function insert(builds: Build[], build: Build, before: (other: Build) => boolean): Build[] {
  const others = builds.filter((other) => other.buildid !== build.buildid);
  const at = others.findIndex(before);
  others.splice(at === -1 ? others.length : at, 0, build);
  return others;
}
