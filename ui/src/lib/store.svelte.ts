import { ApiError, get, getJson, serverSkewS } from './api';
import { Builds, fromLine, SHOWN_PROPERTIES, type Line } from './builds.svelte';
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
    else if (kind === 'builds' && event === 'deleted') this.builds.remove(id);
    else if (kind === 'builds') this.builds.put(id, message as Build);
    else if (kind === 'buildrequests') this.#request(id, message as BuildRequest);
    else if (kind === 'workers') this.workers.put(id, message as Worker);
    else if (kind === 'schedulers') this.schedulers.put(id, message as Scheduler);
    else if (kind === 'builders') this.#merge(this.builders, id, event, message as Builder);
    else if (kind === 'masters') this.#merge(this.masters, id, event, message as Master);
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
    const builders = await get<Builder & { summary: { recent: Line[] } | null }>('builders', { expand: 'summary' });
    const property = SHOWN_PROPERTIES;
    const [running, requests, workers, schedulers, masters] = await Promise.all([
      get<Build>('builds', { complete: false, property }),
      get<BuildRequest>('buildrequests', { complete: false, claimed: false, property: ['owner', 'reason', 'branch'] }),
      get<Worker>('workers'),
      get<Scheduler>('schedulers'),
      get<Master>('masters'),
    ]);
    const recent = builders.items.flatMap(({ builderid, summary }) => (summary?.recent ?? []).map((line) => fromLine(builderid, line)));
    this.builders.replaceAll(builders.items.map(({ summary: _, ...builder }) => [builder.builderid, builder]));
    // Oldest first, so that those that finished last are indexed last.
    const builds = recent.sort((a, b) => a.buildid - b.buildid).concat(running.items);
    this.builds.replaceAll(builds.map((item) => [item.buildid, item]));
    this.requests.replaceAll(requests.items.map((item) => [item.buildrequestid, item]));
    this.workers.replaceAll(workers.items.map((item) => [item.workerid, item]));
    this.schedulers.replaceAll(schedulers.items.map((item) => [item.schedulerid, item]));
    this.masters.replaceAll(masters.items.map((item) => [item.masterid, item]));
    return builders.clock;
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
