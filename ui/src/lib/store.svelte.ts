import { ApiError, get, getJson, serverSkewS } from './api';
import { Backfill } from './backfill';
import { Builds, KEPT_PER_BUILDER, SHOWN_PROPERTIES } from './builds.svelte';
import { Feed, feedUrl, type FeedStatus, type Socket } from './feed';
import { live } from './live';
import type { Build, Builder, BuildRequest, Master, Properties, Scheduler, Worker } from './model';
import { Table } from './paint.svelte';
import { toasts } from './toasts.svelte';

export interface Config {
  title: string;
  titleURL?: string;
  buildbotURL?: string;
  user?: { anonymous?: boolean; username?: string; email?: string; full_name?: string };
  versions?: [string, string][];
}

/** Topics that every page needs: the state of the farm, without steps and logs. */
const CORE_PATHS = [
  'builders/*/*',
  'builds/*/*',
  'builds/*/properties/*',
  'buildrequests/*/*',
  'workers/*/*',
  'schedulers/*/*',
  'masters/*/*',
];
const RECENT_AT_LEAST = 200;
const RECENT_AT_MOST = 1000;
const BACKFILL_AT_ONCE = 4;

/** The state of the farm that all pages share, kept live by one subscription. */
class Store {
  builders = new Table<Builder>();
  builds = new Builds();
  /** Only those that wait. */
  requests = new Table<BuildRequest>();
  workers = new Table<Worker>();
  schedulers = new Table<Scheduler>();
  masters = new Table<Master>();
  config = $state.raw<Config>({ title: 'Greenroom' });
  /** Why the last snapshot could not be read; null when it could. */
  error = $state.raw<ApiError | null>(null);
  status = $state.raw<FeedStatus>({ state: 'connecting', lostAt: null, retryAt: null });
  /** Seconds since the epoch by the server's clock; stands still while offline. */
  now = $state(Math.floor(Date.now() / 1000));

  readonly feed = new Feed({
    connect: () => new WebSocket(feedUrl(window.location)) as unknown as Socket,
    onStatus: (status) => (this.status = status),
    onCaughtUp: (updates) => toasts.done(`Caught up: ${updates} ${updates === 1 ? 'update' : 'updates'}`),
    onRefused: (message) => toasts.failed('Live updates were refused', new Error(message)),
  });

  /** The snapshot held every build there is. */
  #allKnown = false;
  #backfill = new Backfill((id) => this.#readOld(id), BACKFILL_AT_ONCE);

  get loaded(): boolean {
    return this.builders.loaded;
  }

  start(): () => void {
    this.feed.start();
    const retry = () => {
      if (document.visibilityState === 'visible') this.feed.retryNow();
    };
    window.addEventListener('online', retry);
    window.addEventListener('focus', retry);
    document.addEventListener('visibilitychange', retry);
    const ticker = setInterval(() => this.#tick(), 1000);
    void this.#readConfig();
    const close = live(this.feed, {
      load: () => this.#load(),
      paths: () => CORE_PATHS,
      onEvent: (key, message) => this.apply(key, message),
      onError: (error) => (this.error = error),
    });
    return () => {
      close();
      clearInterval(ticker);
      window.removeEventListener('online', retry);
      window.removeEventListener('focus', retry);
      document.removeEventListener('visibilitychange', retry);
      this.feed.stop();
    };
  }

  builderByName(name: string): Builder | undefined {
    return this.builders.values().find((builder) => builder.name === name);
  }

  builderName(id: number): string {
    return this.builders.get(id)?.name ?? `builder ${id}`;
  }

  workerName(build: Build): string {
    return this.workers.get(build.workerid)?.name ?? String(build.properties.workername?.[0] ?? '');
  }

  /** Takes one event of the feed. */
  apply(key: string, message: unknown): void {
    const parts = key.split('/');
    const kind = parts[0];
    const id = Number(parts[1]);
    const event = parts.at(-1);
    if (kind === 'builds' && parts[2] === 'properties') this.builds.mergeProperties(id, message as Properties);
    else if (kind === 'builds') this.builds.put(id, message as Build);
    else if (kind === 'buildrequests') this.#request(id, message as BuildRequest);
    else if (kind === 'workers') this.workers.put(id, message as Worker);
    else if (kind === 'schedulers') this.schedulers.put(id, message as Scheduler);
    else if (kind === 'builders') this.#merge(this.builders, id, event, message as Builder);
    else if (kind === 'masters') this.#merge(this.masters, id, event, message as Master);
  }

  /** Sees to it that the last finished builds of builders are known, however old. */
  backfill(builderids: readonly number[]): void {
    if (this.#allKnown) return;
    this.#backfill.ask(builderids.filter((id) => this.#lacksBuilds(id)));
  }

  /** Whether it is known which builds a builder had last; false while that is being read. */
  knowsBuilds(builderid: number): boolean {
    void this.builds.size;
    return this.#allKnown || this.builds.summary(builderid).last !== undefined || this.#backfill.isDone(builderid);
  }

  /** Requests that wait for a builder. */
  waitingFor(builderid: number): BuildRequest[] {
    return this.requests.values().filter((request) => request.builderid === builderid);
  }

  #tick(): void {
    if (this.status.state !== 'offline') this.now = Math.floor(Date.now() / 1000) + serverSkewS;
  }

  async #readConfig(): Promise<void> {
    try {
      this.config = await getJson<Config>('/config');
    } catch {
      // The title stays the default; the snapshot says whether the server is well.
    }
  }

  /**
   * The clock of the first read is kept for all: what happened between the reads comes again by
   * the feed, and a whole entity may be taken twice.
   */
  async #load(): Promise<string> {
    const builders = await get<Builder>('builders');
    const limit = Math.min(RECENT_AT_MOST, Math.max(RECENT_AT_LEAST, KEPT_PER_BUILDER * builders.items.length));
    const property = SHOWN_PROPERTIES;
    const [running, recent, requests, workers, schedulers, masters] = await Promise.all([
      get<Build>('builds', { complete: false, property }),
      get<Build>('builds', { complete: true, order: '-buildid', limit, property }),
      get<BuildRequest>('buildrequests', { complete: false, claimed: false, property: ['owner', 'reason', 'branch'] }),
      get<Worker>('workers'),
      get<Scheduler>('schedulers'),
      get<Master>('masters'),
    ]);
    this.builders.replaceAll(builders.items.map((item) => [item.builderid, item]));
    // Oldest first, so that those that finished last are indexed last.
    const builds = [...recent.items].reverse().concat(running.items);
    this.builds.replaceAll(builds.map((item) => [item.buildid, item]));
    this.#backfill.reset();
    this.#allKnown = recent.items.length < limit;
    // A builder that has been quiet for long may be broken all the same.
    this.backfill(builders.items.map((item) => item.builderid).filter((id) => this.builds.summary(id).last === undefined));
    this.requests.replaceAll(requests.items.map((item) => [item.buildrequestid, item]));
    this.workers.replaceAll(workers.items.map((item) => [item.workerid, item]));
    this.schedulers.replaceAll(schedulers.items.map((item) => [item.schedulerid, item]));
    this.masters.replaceAll(masters.items.map((item) => [item.masterid, item]));
    return builders.clock;
  }

  #lacksBuilds(builderid: number): boolean {
    const known = this.builds.summary(builderid).strip;
    return known.length < KEPT_PER_BUILDER && known[0]?.number !== 1;
  }

  async #readOld(builderid: number): Promise<void> {
    const { items } = await get<Build>(`builders/${builderid}/builds`, {
      order: '-number',
      limit: KEPT_PER_BUILDER,
      property: SHOWN_PROPERTIES,
    });
    // Only what is final and unknown: the feed has the newer word on all others.
    for (const build of items) {
      if (build.complete && this.builds.peek(build.buildid) === undefined) this.builds.put(build.buildid, build);
    }
    if (items.length === 0) this.builds.touch();
  }

  #request(id: number, request: BuildRequest): void {
    if (request.complete || request.claimed) {
      this.requests.delete(id);
      return;
    }
    const properties = request.properties ?? this.requests.peek(id)?.properties ?? null;
    this.requests.put(id, { ...request, properties });
  }

  /** `started` and `stopped` bring short forms, which must not wipe the rest. */
  #merge<T extends object>(table: Table<T>, id: number, event: string | undefined, message: T): void {
    const known = table.peek(id);
    if (event === 'update' || known === undefined) table.put(id, withDefaults(message));
    else table.put(id, { ...known, ...message });
  }
}

function withDefaults<T extends object>(message: T): T {
  return { tags: [], masterids: [], description: null, ...message };
}

export const store = new Store();
