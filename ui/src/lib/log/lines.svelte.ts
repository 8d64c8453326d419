import { ApiError, get } from '../api';
import { sgrAfter } from './ansi';

/** Lines that are read at once. */
export const WINDOW = 500;
/** Windows that are kept; those not used for longest go first. */
export const KEPT_WINDOWS = 200;

interface Window {
  lines: string[];
  /** SGR state before each line, filled as far as asked. */
  states: string[];
}

export interface Line {
  text: string;
  /** `o` stdout, `e` stderr, `h` header; empty for logs without streams. */
  stream: string;
  /** SGR codes in force at its start. */
  state: string;
}

type Read = (logid: number, offset: number, limit: number) => Promise<string>;

async function readContents(logid: number, offset: number, limit: number): Promise<string> {
  const reply = await get<{ content: string }>(`logs/${logid}/contents`, { offset, limit });
  return reply.items[0]?.content ?? '';
}

/** The lines of one log, read by windows as they are looked at. */
export class LogLines {
  readonly logid: number;
  readonly hasStreams: boolean;
  /** Why the last read failed; null when it did not. */
  error = $state.raw<ApiError | null>(null);
  #windows = new Map<number, Window>();
  #reading = new Set<number>();
  #version = $state(0);
  #read: Read;

  constructor(logid: number, type: string, read: Read = readContents) {
    this.logid = logid;
    this.hasStreams = type === 's';
    this.#read = read;
  }

  /** The line at `index` (from 0), or undefined while it is read. */
  line(index: number): Line | undefined {
    void this.#version;
    const number = Math.floor(index / WINDOW);
    const raw = this.#windows.get(number)?.lines[index % WINDOW];
    if (raw === undefined) return undefined;
    if (!this.hasStreams) return { text: raw, stream: '', state: this.#stateBefore(index) };
    const stream = raw.slice(0, 1);
    return { text: raw.slice(1), stream, state: stream === 'h' ? '' : this.#stateBefore(index) };
  }

  /** Reads what is missing of the lines from `from` to before `to`, of a log of `total` lines. */
  ensure(from: number, to: number, total: number): void {
    const last = Math.floor(Math.max(from, Math.min(to, total) - 1) / WINDOW);
    for (let number = Math.floor(from / WINDOW); number <= last; number += 1) this.#ensureWindow(number, total);
  }

  #ensureWindow(number: number, total: number): void {
    const window = this.#windows.get(number);
    if (window !== undefined) {
      this.#windows.delete(number);
      this.#windows.set(number, window);
    }
    const have = window?.lines.length ?? 0;
    const want = Math.min(WINDOW, total - number * WINDOW);
    if (have >= want || this.#reading.has(number)) return;
    this.#reading.add(number);
    void this.#fill(number, have, want - have);
  }

  async #fill(number: number, have: number, missing: number): Promise<void> {
    try {
      const content = await this.#read(this.logid, number * WINDOW + have, missing);
      const lines = content.split('\n');
      if (lines.at(-1) === '') lines.pop();
      const window = this.#windows.get(number) ?? { lines: [], states: [] };
      // What was dropped meanwhile is read again from its start when it is looked at.
      if (window.lines.length === have) window.lines.push(...lines);
      this.#windows.delete(number);
      this.#windows.set(number, window);
      this.#trim();
      this.error = null;
    } catch (error) {
      this.error = error instanceof ApiError ? error : new ApiError(String(error), 0);
    } finally {
      this.#reading.delete(number);
      this.#version += 1;
    }
  }

  #trim(): void {
    for (const number of this.#windows.keys()) {
      if (this.#windows.size <= KEPT_WINDOWS) return;
      this.#windows.delete(number);
    }
  }

  /** The colours that earlier lines left in force, as far as the windows before are known. */
  #stateBefore(index: number): string {
    const number = Math.floor(index / WINDOW);
    const window = this.#windows.get(number);
    if (window === undefined) return '';
    const { lines, states } = window;
    if (states.length === 0) states.push(this.#stateAtEnd(number - 1));
    for (let i = states.length; i <= index % WINDOW; i += 1) {
      states.push(this.#after(states[i - 1] ?? '', lines[i - 1] ?? ''));
    }
    return states[index % WINDOW] ?? '';
  }

  #stateAtEnd(number: number): string {
    const window = this.#windows.get(number);
    if (number < 0 || window === undefined || window.lines.length < WINDOW) return '';
    if (window.states.length === 0) return '';
    const last = number * WINDOW + WINDOW - 1;
    return this.#after(this.#stateBefore(last), window.lines[WINDOW - 1] ?? '');
  }

  #after(state: string, raw: string): string {
    return this.hasStreams && raw.startsWith('h') ? state : sgrAfter(state, raw);
  }
}
