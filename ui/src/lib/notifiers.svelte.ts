import { get, type ApiError } from './api';
import { readActor, type Actor } from './actors';
import { live } from './live';
import type { Build, Delivery, Notifier } from './model';
import { Table } from './paint.svelte';
import { store } from './store.svelte';

/** What the server keeps of each notifier: so many that were silenced, and so many of all others that are settled. */
export const KEPT_SETTLED = 50;
/** The most messages that are read at once. */
const READ_AT_MOST = 1000;
/** The tree of actors is read at most once in so long, and only when something happened. */
const LOOK_AGAIN_MS = 2000;

/** Notifiers with their last messages, kept live while their page stands: all of them, or one. */
export class Notifiers {
  notifiers = new Table<Notifier>();
  deliveries = new Table<Delivery>();
  error = $state.raw<ApiError | null>(null);
  /** There are more messages that wait than were read. */
  moreWaiting = $state(false);
  /** Their actors and those of their connections, by name, as they were at `seenAt`. */
  actors = $state.raw<ReadonlyMap<string, Actor>>(new Map());
  /** When the actors were looked at, in seconds since the epoch. */
  seenAt = $state<number | null>(null);
  /** The builds that messages are about. */
  builds = $state.raw<ReadonlyMap<number, Build>>(new Map());
  #name: string | null;
  #close: () => void;
  #closed = false;
  #lookTimer: ReturnType<typeof setTimeout> | undefined;
  #asked = new Set<number>();

  /** @param name of one notifier; null for all */
  constructor(name: string | null) {
    this.#name = name;
    const element = name ?? '*';
    const close = live(store.feed, {
      load: () => this.#load(),
      paths: () => [`notifiers/${element}/deliveries/*/*`, 'notifiers/*/*'],
      onEvent: (key, message) => this.#apply(key, message),
      onError: (error) => (this.error = error),
    });
    const again = () => {
      if (document.visibilityState === 'visible') this.#look();
    };
    document.addEventListener('visibilitychange', again);
    window.addEventListener('focus', again);
    this.#close = () => {
      close();
      document.removeEventListener('visibilitychange', again);
      window.removeEventListener('focus', again);
    };
  }

  get loaded(): boolean {
    return this.notifiers.loaded;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#lookTimer);
    this.#close();
  }

  /** What is configured first, then by name: rows stay where they are. */
  byName(): Notifier[] {
    const gone = (one: Notifier) => Number(one.masterid === null);
    return this.notifiers.values().sort((a, b) => gone(a) - gone(b) || a.name.localeCompare(b.name));
  }

  /** A notifier's messages: what waits, then the others from the last one on. */
  of(name: string): Delivery[] {
    return this.deliveries
      .values()
      .filter((one) => one.notifier === name)
      .sort(newestFirst);
  }

  async #load(): Promise<string> {
    const base = this.#name === null ? 'deliveries' : `notifiers/${encodeURIComponent(this.#name)}/deliveries`;
    const list = await (this.#name === null
      ? get<Notifier>('notifiers')
      : get<Notifier>(`notifiers/${encodeURIComponent(this.#name)}`));
    const [waiting, settled] = await Promise.all([
      get<Delivery>(base, { state: 'waiting', order: '-deliveryid', limit: READ_AT_MOST }),
      get<Delivery>(base, { state__ne: 'waiting', order: '-deliveryid', limit: READ_AT_MOST }),
    ]);
    this.notifiers.replaceAll(list.items.map((item) => [item.notifierid, item]));
    this.deliveries.replaceAll([...settled.items, ...waiting.items].map((item) => [item.deliveryid, item]));
    this.moreWaiting = (waiting.total ?? 0) > waiting.items.length;
    this.#look();
    this.#findBuilds();
    return list.clock;
  }

  #apply(key: string, message: unknown): void {
    if (key.includes('/deliveries/')) {
      const delivery = message as Delivery;
      this.deliveries.put(delivery.deliveryid, delivery);
      if (delivery.state !== 'waiting') this.#trim(delivery.notifier);
      this.#findBuilds();
    } else {
      const notifier = message as Notifier;
      if (this.#name === null || notifier.name === this.#name) this.notifiers.put(notifier.notifierid, notifier);
    }
    this.#look();
  }

  /** As the server does: a page that stays open does not grow. */
  #trim(name: string): void {
    const mine = this.deliveries.peekIds().flatMap((id) => {
      const one = this.deliveries.peek(id);
      return one !== undefined && one.notifier === name && one.state !== 'waiting' ? [one] : [];
    });
    for (const silenced of [true, false]) {
      const kind = mine.filter((one) => (one.state === 'silenced') === silenced).sort(newestFirst);
      for (const old of kind.slice(KEPT_SETTLED)) this.deliveries.delete(old.deliveryid);
    }
  }

  /** Connections are no entities: how they are is looked up whenever something happened, or the page is looked at again. */
  #look(): void {
    if (this.#lookTimer !== undefined || this.#closed) return;
    const read = async () => {
      try {
        const { items } = await get<Record<string, unknown>>('actors', { kind: ['notifier', 'irc-connection'] });
        this.actors = new Map(items.map(readActor).map((actor) => [actor.name, actor]));
        this.seenAt = store.now;
      } catch {
        // What was seen last stands, with its age.
      }
    };
    // At once, and once more for what happens meanwhile.
    this.#lookTimer = setTimeout(() => {
      this.#lookTimer = undefined;
      if (!this.#closed) void read();
    }, this.seenAt === null ? 0 : LOOK_AGAIN_MS);
  }

  /** Messages name builds by id; their addresses need builder and number. */
  #findBuilds(): void {
    const unknown = this.deliveries.peekIds().flatMap((id) => {
      const build = this.deliveries.peek(id)?.buildid ?? null;
      return build === null || this.#asked.has(build) ? [] : [build];
    });
    const ids = [...new Set(unknown)];
    if (ids.length === 0) return;
    ids.forEach((id) => this.#asked.add(id));
    const here = ids.flatMap((id) => store.builds.peek(id) ?? []);
    this.#know(here);
    const missing = ids.filter((id) => !here.some((build) => build.buildid === id)).slice(-200);
    if (missing.length > 0)
      get<Build>('builds', { buildid: missing }).then(
        (reply) => this.#know(reply.items),
        () => missing.forEach((id) => this.#asked.delete(id)),
      );
  }

  #know(found: Build[]): void {
    if (found.length === 0) return;
    const wanted = new Set(this.deliveries.peekIds().map((id) => this.deliveries.peek(id)?.buildid));
    const kept = [...this.builds].filter(([id]) => wanted.has(id));
    this.builds = new Map([...kept, ...found.map((build) => [build.buildid, build] as const)]);
  }
}

function newestFirst(a: Delivery, b: Delivery): number {
  const waits = (one: Delivery) => Number(one.state === 'waiting');
  return waits(b) - waits(a) || (b.settled_at ?? 0) - (a.settled_at ?? 0) || b.deliveryid - a.deliveryid;
}
