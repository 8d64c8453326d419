/**
 * The live feed: one WebSocket, any number of subscriptions, each with its own clock.
 *
 * A subscription starts at the clock of a snapshot and is resumed from its own last clock after a
 * break. Order and uniqueness are the server's work: nothing is compared here.
 */

export type FeedState = 'connecting' | 'live' | 'catching-up' | 'offline';

export interface Subscription {
  /** Topic patterns, for example `builds/ * / *` without the blanks. */
  paths: string[];
  /** The clock of the snapshot that the updates follow. */
  since: string;
  /** One event: its routing key and the whole entity. */
  onEvent: (key: string, message: unknown) => void;
  /** The clock is too old to resume: take a new snapshot and subscribe again. */
  onGone: () => void;
}

export interface FeedStatus {
  state: FeedState;
  /** When the connection was lost, in ms since the epoch; null while connected. */
  lostAt: number | null;
  /** When the next attempt is made, in ms since the epoch; null while one runs. */
  retryAt: number | null;
}

interface Entry extends Subscription {
  id: number;
}

interface Frame {
  k?: string;
  m?: unknown;
  s?: number;
  c?: string;
  _id?: number;
  code?: number;
  clock?: string;
  error?: string;
}

/** The parts of a WebSocket that the feed uses; tests bring their own. */
export interface Socket {
  onopen: ((event: unknown) => void) | null;
  onclose: ((event: { code: number }) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  send(text: string): void;
  close(): void;
}

export interface FeedOptions {
  connect: () => Socket;
  onStatus: (status: FeedStatus) => void;
  /** Called once all subscriptions are resumed after a break, with the number of updates that came since. */
  onCaughtUp?: (updates: number) => void;
  /** A subscription was refused for another reason than its age. */
  onRefused?: (message: string) => void;
  random?: () => number;
}

const BACKOFF_FIRST_MS = 500;
const BACKOFF_LAST_MS = 15_000;
/** A master that was restarted is back soon: in the first minute nobody waits longer than this. */
const BACKOFF_EARLY_MS = 2000;
const EARLY_MS = 60_000;
/** The server speaks at least every 10 s; a connection silent for longer than this is dead. */
const SILENCE_MS = 25_000;
/** How long after the last resumed subscription its replayed events are counted. */
const CAUGHT_UP_AFTER_MS = 400;

/** Delay before attempt `attempt` (from 0): doubling with jitter between half and whole. */
export function backoffMs(attempt: number, random: () => number): number {
  const whole = Math.min(BACKOFF_LAST_MS, BACKOFF_FIRST_MS * 2 ** attempt);
  return Math.round(whole * (0.5 + random() / 2));
}

export class Feed {
  #options: FeedOptions;
  #socket: Socket | null = null;
  #open = false;
  #entries = new Map<number, Entry>();
  #waiting = new Set<number>();
  #nextId = 0;
  #attempt = 0;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #silenceTimer: ReturnType<typeof setTimeout> | undefined;
  #caughtUpTimer: ReturnType<typeof setTimeout> | undefined;
  #status: FeedStatus = { state: 'connecting', lostAt: null, retryAt: null };
  #resuming = false;
  #updates = 0;
  #stopped = false;

  constructor(options: FeedOptions) {
    this.#options = options;
  }

  get status(): FeedStatus {
    return this.#status;
  }

  start(): void {
    this.#connect();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#silenceTimer);
    clearTimeout(this.#caughtUpTimer);
    this.#drop();
  }

  /** Adds a subscription; the function that comes back ends it. */
  subscribe(subscription: Subscription): () => void {
    const entry = { ...subscription, id: ++this.#nextId };
    this.#entries.set(entry.id, entry);
    if (this.#open) this.#startConsuming(entry);
    return () => {
      if (!this.#entries.delete(entry.id)) return;
      this.#answered(entry.id);
      if (this.#open) this.#send({ cmd: 'stopConsuming', _id: entry.id });
    };
  }

  /** Tries at once if the connection is down: the browser is online again, or the user asks. */
  retryNow(): void {
    if (this.#socket !== null || this.#stopped) return;
    clearTimeout(this.#retryTimer);
    this.#connect();
  }

  #connect(): void {
    const socket = this.#options.connect();
    this.#socket = socket;
    if (this.#status.retryAt !== null) this.#setStatus({ ...this.#status, retryAt: null });
    this.#watchSilence();
    socket.onopen = () => this.#opened();
    socket.onclose = () => this.#lost(socket);
    socket.onmessage = (event) => this.#received(event.data);
  }

  #opened(): void {
    this.#open = true;
    this.#attempt = 0;
    this.#resuming = this.#status.lostAt !== null;
    this.#updates = 0;
    this.#setStatus({ state: 'catching-up', lostAt: this.#status.lostAt, retryAt: null });
    for (const entry of this.#entries.values()) this.#startConsuming(entry);
    if (this.#entries.size === 0) this.#caughtUp();
  }

  #lost(socket: Socket): void {
    if (socket !== this.#socket || this.#stopped) return;
    this.#drop();
    const now = Date.now();
    const lostAt = this.#status.lostAt ?? now;
    const longest = now - lostAt < EARLY_MS ? BACKOFF_EARLY_MS : BACKOFF_LAST_MS;
    const delay = Math.min(longest, backoffMs(this.#attempt, this.#options.random ?? Math.random));
    this.#attempt += 1;
    this.#setStatus({ state: 'offline', lostAt, retryAt: now + delay });
    this.#retryTimer = setTimeout(() => this.#connect(), delay);
  }

  #drop(): void {
    const socket = this.#socket;
    this.#socket = null;
    this.#open = false;
    this.#waiting.clear();
    clearTimeout(this.#silenceTimer);
    clearTimeout(this.#caughtUpTimer);
    if (socket === null) return;
    socket.onopen = socket.onclose = socket.onmessage = null;
    socket.close();
  }

  #watchSilence(): void {
    clearTimeout(this.#silenceTimer);
    const socket = this.#socket;
    this.#silenceTimer = setTimeout(() => {
      if (socket !== null) this.#lost(socket);
    }, SILENCE_MS);
  }

  #startConsuming(entry: Entry): void {
    this.#waiting.add(entry.id);
    this.#send({ cmd: 'startConsuming', _id: entry.id, paths: entry.paths, since: entry.since });
  }

  #send(message: unknown): void {
    this.#socket?.send(JSON.stringify(message));
  }

  #received(data: unknown): void {
    this.#watchSilence();
    if (typeof data !== 'string') return;
    let frame: Frame;
    try {
      frame = JSON.parse(data) as Frame;
    } catch {
      return;
    }
    if (typeof frame.s === 'number') this.#event(frame, frame.s);
    else if (typeof frame._id === 'number' && typeof frame.code === 'number') this.#reply(frame, frame._id);
  }

  #event(frame: Frame, id: number): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    if (typeof frame.c === 'string') entry.since = frame.c;
    if (typeof frame.k !== 'string') return;
    this.#updates += 1;
    entry.onEvent(frame.k, frame.m);
  }

  #reply(frame: Frame, id: number): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    if (frame.code === 410) {
      this.#entries.delete(id);
      entry.onGone();
    } else if (frame.code !== 200) {
      this.#options.onRefused?.(frame.error ?? `refused with code ${frame.code}`);
    }
    this.#answered(id);
  }

  #answered(id: number): void {
    this.#waiting.delete(id);
    if (this.#open && this.#waiting.size === 0) this.#caughtUp();
  }

  #caughtUp(): void {
    if (this.#status.state === 'live') return;
    this.#setStatus({ state: 'live', lostAt: null, retryAt: null });
    if (!this.#resuming) return;
    this.#resuming = false;
    clearTimeout(this.#caughtUpTimer);
    this.#caughtUpTimer = setTimeout(() => this.#options.onCaughtUp?.(this.#updates), CAUGHT_UP_AFTER_MS);
  }

  #setStatus(status: FeedStatus): void {
    this.#status = status;
    this.#options.onStatus(status);
  }
}

/** The address of the feed on the page's own origin. */
export function feedUrl(location: Pick<Location, 'protocol' | 'host'>): string {
  return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`;
}
