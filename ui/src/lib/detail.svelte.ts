import { ApiError, get, getOne } from './api';
import { live } from './live';
import { SHOWN_PROPERTIES } from './builds.svelte';
import type { Build, BuildRequest, Buildset, Change, Log, Properties, Step } from './model';
import { Table } from './paint.svelte';
import { store } from './store.svelte';

/** Builds of one builder that its page keeps, at most. */
const KEPT_BUILDS = 1000;
/** Of so many steps of a build that has ended it is followed whether their logs go. */
const FOLLOWED_STEPS = 50;

/** A build with what its page needs of it, in one read. */
interface WholeBuild extends Build {
  steps: (Step & { logs: Log[] })[];
  changes: Change[];
  request: BuildRequest | null;
  buildset: Buildset | null;
  neighbours: { previous: Build | null; next: Build | null };
  changes_since_good: { changes: Change[]; good: Build | null; more: boolean };
}

const PARTS = 'properties,steps,logs,changes,request,buildset,neighbours,changes_since_good';

/** One build with all that its page shows, kept live while the page stands. */
export class BuildDetail {
  readonly builder: string;
  readonly number: number;
  build = $state.raw<Build | null>(null);
  error = $state.raw<ApiError | null>(null);
  changes = $state.raw<Change[]>([]);
  neighbours = $state.raw<WholeBuild['neighbours']>({ previous: null, next: null });
  sinceGood = $state.raw<WholeBuild['changes_since_good']>({ changes: [], good: null, more: false });
  request = $state.raw<BuildRequest | null>(null);
  buildset = $state.raw<Buildset | null>(null);
  steps = new Table<Step>();
  logs = new Table<Log>();
  #close: () => void;
  #logFeeds = new Map<number, () => void>();
  #loadedLogs = $state.raw<ReadonlySet<number>>(new Set());

  /** @param builder name or id of the builder */
  constructor(builder: string, number: number) {
    this.builder = builder;
    this.number = number;
    this.#close = live(store.feed, {
      load: () => this.#load(),
      paths: () => {
        const id = this.build?.buildid ?? 0;
        const ended = this.build?.complete === true ? this.steps.peekIds() : [];
        // Retention may take the logs of a build that has ended.
        const logs = ended.slice(0, FOLLOWED_STEPS).map((stepid) => `steps/${stepid}/logs/*/deleted`);
        return [`builds/${id}/*`, `builds/${id}/properties/*`, `builds/${id}/steps/*/*`, ...logs];
      },
      onEvent: (key, message) => this.#apply(key, message),
      onError: (error) => (this.error = error),
    });
  }

  close(): void {
    this.#close();
    for (const close of this.#logFeeds.values()) close();
  }

  /** Steps that are not hidden, in order. */
  shownSteps(): Step[] {
    return this.steps
      .values()
      .filter((step) => !step.hidden)
      .sort((a, b) => a.number - b.number);
  }

  logsOf(stepid: number): Log[] {
    return this.logs
      .values()
      .filter((log) => log.stepid === stepid)
      .sort((a, b) => a.logid - b.logid);
  }

  /** Whether the logs of a step have been read. */
  hasLogs(stepid: number): boolean {
    return this.#loadedLogs.has(stepid);
  }

  /** Follows the logs of a step; once is enough. Those of an ended step stay as they are. */
  openLogs(stepid: number): void {
    const logs = this.logsOf(stepid);
    const ended = this.steps.peek(stepid)?.complete === true && this.hasLogs(stepid) && logs.every((log) => log.complete);
    if (ended || this.#logFeeds.has(stepid)) return;
    const close = live(store.feed, {
      load: async () => {
        const reply = await get<Log>(`steps/${stepid}/logs`);
        this.#putLogs(stepid, reply.items);
        return reply.clock;
      },
      paths: () => [`steps/${stepid}/logs/*/*`],
      onEvent: (key, message) => {
        const log = message as Log;
        if (key.endsWith('/deleted')) this.logs.delete(log.logid);
        else this.logs.put(log.logid, log);
      },
    });
    this.#logFeeds.set(stepid, close);
  }

  async #load(): Promise<string> {
    const path = `builders/${encodeURIComponent(this.builder)}/builds/${this.number}`;
    const { item, clock } = await getOne<WholeBuild>(path, { expand: PARTS });
    const { steps, changes, request, buildset, neighbours, changes_since_good, ...build } = item;
    this.build = build;
    this.steps.replaceAll(steps.map(({ logs: _, ...step }) => [step.stepid, step]));
    for (const step of steps) this.#putLogs(step.stepid, step.logs);
    [this.changes, this.neighbours, this.sinceGood] = [changes, neighbours, changes_since_good];
    [this.request, this.buildset] = [request, buildset];
    return clock;
  }

  #putLogs(stepid: number, logs: readonly Log[]): void {
    for (const known of this.logsOf(stepid)) this.logs.delete(known.logid);
    for (const log of logs) this.logs.put(log.logid, log);
    this.logs.flush();
    this.#loadedLogs = new Set([...this.#loadedLogs, stepid]);
  }

  #apply(key: string, message: unknown): void {
    const parts = key.split('/');
    const build = this.build;
    if (build === null) return;
    if (parts[0] === 'steps') {
      this.logs.delete((message as Log).logid);
    } else if (parts.at(-1) === 'deleted') {
      [this.build, this.error] = [null, new ApiError('Retention has removed this build.', 410)];
    } else if (parts[2] === 'steps') {
      const step = message as Step;
      this.steps.put(step.stepid, step);
    } else if (parts[2] === 'properties') {
      this.build = { ...build, properties: { ...build.properties, ...(message as Properties) } };
    } else {
      this.build = { ...(message as Build), properties: build.properties };
    }
  }
}

/** The builds of one builder, newest first, kept live while its page stands. */
export class BuilderHistory {
  builds = new Table<Build>();
  error = $state.raw<ApiError | null>(null);
  /** Whether older builds remain to be read. */
  more = $state(false);
  #builderid: number;
  #close: () => void;

  constructor(builderid: number) {
    this.#builderid = builderid;
    this.#close = live(store.feed, {
      load: async () => {
        const reply = await this.#read({});
        this.builds.replaceAll(reply.items.map((build) => [build.number, build]));
        return reply.clock;
      },
      paths: () => [`builders/${builderid}/builds/*/*`],
      onEvent: (key, message) => {
        const build = message as Build;
        if (key.endsWith('/deleted')) {
          this.builds.delete(build.number);
          return;
        }
        const known = this.builds.peek(build.number) ?? store.builds.peek(build.buildid);
        this.builds.put(build.number, { ...build, properties: { ...known?.properties, ...build.properties } });
        this.#trim();
      },
      onError: (error) => (this.error = error),
    });
  }

  close(): void {
    this.#close();
  }

  newestFirst(): Build[] {
    return this.builds.values().sort((a, b) => b.number - a.number);
  }

  /** A page that stays open does not grow: the oldest go, and can be read again. */
  #trim(): void {
    const numbers = this.builds.peekIds();
    if (numbers.length <= KEPT_BUILDS) return;
    this.builds.delete(Math.min(...numbers));
    this.more = true;
  }

  async readOlder(): Promise<void> {
    const oldest = Math.min(...this.builds.peekIds());
    const reply = await this.#read({ number__lt: oldest });
    for (const build of reply.items) this.builds.put(build.number, build);
  }

  async #read(query: Record<string, number>) {
    const limit = 200;
    const reply = await get<Build>(`builders/${this.#builderid}/builds`, {
      order: '-number',
      limit,
      property: SHOWN_PROPERTIES,
      ...query,
    });
    this.more = reply.items.length === limit;
    return reply;
  }
}
