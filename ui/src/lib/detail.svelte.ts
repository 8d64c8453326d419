import { get, getOne, type ApiError } from './api';
import { live } from './live';
import { SHOWN_PROPERTIES } from './builds.svelte';
import type { Build, BuildRequest, Buildset, Change, Log, Properties, Step } from './model';
import { Table } from './paint.svelte';
import { store } from './store.svelte';

/** Builds of one builder that its page keeps, at most. */
const KEPT_BUILDS = 1000;

/** One build with all that its page shows, kept live while the page stands. */
export class BuildDetail {
  readonly builder: string;
  readonly number: number;
  build = $state.raw<Build | null>(null);
  error = $state.raw<ApiError | null>(null);
  changes = $state.raw<Change[]>([]);
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
        return [`builds/${id}/*`, `builds/${id}/properties/*`, `builds/${id}/steps/*/*`];
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

  /** Reads the logs of a step and follows them; once is enough. */
  openLogs(stepid: number): void {
    if (this.#logFeeds.has(stepid)) return;
    const close = live(store.feed, {
      load: async () => {
        const reply = await get<Log>(`steps/${stepid}/logs`);
        for (const log of reply.items) this.logs.put(log.logid, log);
        this.logs.flush();
        this.#loadedLogs = new Set([...this.#loadedLogs, stepid]);
        return reply.clock;
      },
      paths: () => [`steps/${stepid}/logs/*/*`],
      onEvent: (_key, message) => this.logs.put((message as Log).logid, message as Log),
    });
    this.#logFeeds.set(stepid, close);
  }

  async #load(): Promise<string> {
    const path = `builders/${encodeURIComponent(this.builder)}/builds/${this.number}`;
    const { item, clock } = await getOne<Build>(path, { property: '*' });
    const [steps, changes] = await Promise.all([
      get<Step>(`builds/${item.buildid}/steps`),
      get<Change>(`builds/${item.buildid}/changes`).catch(() => ({ items: [] })),
    ]);
    this.build = item;
    this.steps.replaceAll(steps.items.map((step) => [step.stepid, step]));
    this.changes = changes.items;
    void this.#loadRequest(item.buildrequestid);
    return clock;
  }

  /** Why the build was made: not needed for the first paint. */
  async #loadRequest(id: number): Promise<void> {
    try {
      const { item } = await getOne<BuildRequest>(`buildrequests/${id}`);
      this.request = item;
      this.buildset = (await getOne<Buildset>(`buildsets/${item.buildsetid}`)).item;
    } catch {
      // The page does without the reason; the build itself says what happened.
    }
  }

  #apply(key: string, message: unknown): void {
    const parts = key.split('/');
    const build = this.build;
    if (build === null) return;
    if (parts[2] === 'steps') {
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
      onEvent: (_key, message) => {
        const build = message as Build;
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
