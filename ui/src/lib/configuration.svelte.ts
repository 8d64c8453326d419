import { control, get, getOne, ApiError } from './api';
import { live } from './live';
import type { ConfigurationVersion, Difference, ReloadState } from './model';
import { Table } from './paint.svelte';
import { store } from './store.svelte';

const READ_AT_ONCE = 50;
/** Versions that a page keeps, at most; older ones can be read again. */
const KEPT = 500;
/** How often it is looked whether the master has brought a new version to all its parts, with growing pauses. */
const CATCH_UP_MS = [200, 1000, 5000];

/** What came of a wish for another configuration. */
export interface Told {
  /** The number in force. */
  number: number;
  previous: number;
  difference: Difference;
  next_start: string[];
  notes: string[];
  /** As `greenroom check` shows them. */
  warnings: string;
}

/** A configuration that was refused, with its faults as a compiler shows them. */
export class Refused extends Error {}

/** Another configuration for a master, or with `dryRun` only what it would change. */
export async function reconfigure(masterid: number, wish: { rollback: number | null; dryRun: boolean }): Promise<Told> {
  const params = { 'dry-run': wish.dryRun, ...(wish.rollback === null ? {} : { number: wish.rollback }) };
  try {
    return await control<Told>(`masters/${masterid}`, wish.rollback === null ? 'reload' : 'rollback', params);
  } catch (error) {
    if (error instanceof ApiError && typeof error.fields.text === 'string') throw new Refused(error.fields.text, { cause: error });
    throw error;
  }
}

/** The configuration of a master with its versions, kept live while its page stands. */
export class Configurations {
  /** By number. */
  versions = new Table<ConfigurationVersion>();
  /** How the last reload went; null when another master would have to be asked. */
  reload = $state.raw<ReloadState | null>(null);
  error = $state.raw<ApiError | null>(null);
  /** Whether older versions remain to be read. */
  more = $state(false);
  #masterid: number;
  /** From here on every version is known. */
  #oldest = 0;
  #close: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(masterid: number) {
    this.#masterid = masterid;
    const close = live(store.feed, {
      load: () => this.#load(),
      // A reload that is refused makes no version: that an act was answered says that it may have happened.
      paths: () => [`masters/${masterid}/configurations/*/*`, 'control/acts/*/answered'],
      onEvent: (key, message) => this.#apply(key, message),
      onError: (error) => (this.error = error),
    });
    const again = () => {
      if (document.visibilityState === 'visible') void this.#readReload(0);
    };
    document.addEventListener('visibilitychange', again);
    window.addEventListener('focus', again);
    this.#close = () => {
      close();
      clearTimeout(this.#timer);
      document.removeEventListener('visibilitychange', again);
      window.removeEventListener('focus', again);
    };
  }

  close(): void {
    this.#close();
  }

  newestFirst(): ConfigurationVersion[] {
    return this.versions.values().sort((a, b) => b.number - a.number);
  }

  /** The last reload was refused, and nothing good came after it. */
  refusal(): { at: number; text: string } | null {
    const { reload } = this;
    if (reload === null || reload.refused_at === null) return null;
    const newest = this.newestFirst()[0];
    if (newest?.cause === 'reload' && newest.created_at > reload.refused_at) return null;
    return { at: reload.refused_at, text: reload.refusal ?? '' };
  }

  async readOlder(): Promise<void> {
    const reply = await this.#read({ number__lt: this.#oldest });
    for (const version of reply.items) this.versions.put(version.number, version);
  }

  /** Reads a single version that is not among those known, such as one that a build links to. */
  async want(number: number): Promise<void> {
    const { items } = await get<ConfigurationVersion>(`masters/${this.#masterid}/configurations`, { number, limit: 1 });
    for (const version of items) this.versions.put(version.number, version);
  }

  async #load(): Promise<string> {
    const [reply] = await Promise.all([this.#read({}), this.#readReload(CATCH_UP_MS.length)]);
    this.versions.replaceAll(reply.items.map((version) => [version.number, version]));
    return reply.clock;
  }

  async #read(query: Record<string, number>) {
    const reply = await get<ConfigurationVersion>(`masters/${this.#masterid}/configurations`, {
      order: '-number',
      limit: READ_AT_ONCE,
      ...query,
    });
    this.more = reply.items.length === READ_AT_ONCE;
    this.#oldest = reply.items.at(-1)?.number ?? 0;
    return reply;
  }

  #apply(key: string, message: unknown): void {
    if (key.startsWith('masters/')) {
      const version = message as ConfigurationVersion;
      this.versions.put(version.number, version);
      const numbers = this.versions.peekIds();
      if (numbers.length > KEPT) {
        const gone = Math.min(...numbers);
        this.versions.delete(gone);
        this.#oldest = Math.max(this.#oldest, gone + 1);
        this.more = true;
      }
    }
    void this.#readReload(0);
  }

  /** A version is announced when it is stored, a moment before it is in force everywhere. */
  async #readReload(attempt: number): Promise<void> {
    clearTimeout(this.#timer);
    try {
      this.reload = (await getOne<ReloadState>(`masters/${this.#masterid}/reload`)).item;
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) this.reload = null;
      return;
    }
    const pause = CATCH_UP_MS[attempt];
    if (pause !== undefined && this.reload.number < Math.max(...this.versions.peekIds()))
      this.#timer = setTimeout(() => void this.#readReload(attempt + 1), pause);
  }
}
