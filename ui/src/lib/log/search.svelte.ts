import { ApiError, queryString } from '../api';

/** A line of a log that matches. */
export interface Match {
  /** From 0. */
  line: number;
  /** The line, or what of it is around the first match. */
  text: string;
  /** Where the match stands in `text`. */
  start: number;
  end: number;
  cut?: boolean;
  stream?: string;
}

export interface Question {
  text: string;
  regex: boolean;
  /** Capitals count. */
  case: boolean;
}

type Row =
  | ({ type: 'match' } & Match)
  | { type: 'progress'; count: number; upto: number }
  | { type: 'summary'; count: number; upto: number; all: boolean }
  | { type: 'error'; error: string };

/** So many matches are kept; the others are counted. */
export const KEPT_MATCHES = 10_000;

type Ask = (url: string, signal: AbortSignal) => Promise<Response>;

/** Yields the lines of a body as they come. */
async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const lines = (rest + value).split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
  }
  if (rest !== '') yield rest;
}

/** A search of one log on the server: matches come while it goes on. */
export class LogSearch {
  readonly logid: number;
  matches = $state.raw<readonly Match[]>([]);
  /** How many lines match, those that are not kept included. */
  count = $state(0);
  /** So many lines are searched. */
  upto = $state(0);
  busy = $state(false);
  error = $state.raw<ApiError | null>(null);
  #question: Question | null = null;
  #stop: AbortController | null = null;
  #ask: Ask;

  constructor(logid: number, ask: Ask = (url, signal) => fetch(url, { signal })) {
    this.logid = logid;
    this.#ask = ask;
  }

  /** Begins anew; an empty text ends the search. */
  async begin(question: Question): Promise<void> {
    this.close();
    this.matches = [];
    this.count = 0;
    this.upto = 0;
    this.error = null;
    this.#question = question.text === '' ? null : question;
    if (this.#question !== null) await this.#read();
  }

  /** Searches what a running log has got since. */
  async goOn(total: number): Promise<void> {
    if (this.#question !== null && !this.busy && this.error === null && total > this.upto) await this.#read();
  }

  close(): void {
    this.#stop?.abort();
    this.#stop = null;
    this.busy = false;
  }

  /** The match at or after a line, or before it; it begins again at the other end. */
  nearest(line: number, by: 1 | -1): Match | undefined {
    const after = this.#firstAfter(by === 1 ? line : line - 1);
    return by === 1 ? (this.matches[after] ?? this.matches[0]) : (this.matches[after - 1] ?? this.matches.at(-1));
  }

  /** Whether a line (from 0) matches. */
  has(line: number): boolean {
    return this.matches[this.#firstAfter(line - 1)]?.line === line;
  }

  /** Which of the matches stands at a line, from 1; 0: none. */
  placeOf(line: number): number {
    return this.has(line) ? this.#firstAfter(line - 1) + 1 : 0;
  }

  /** Index of the first match after a line. */
  #firstAfter(line: number): number {
    let [low, high] = [0, this.matches.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.matches[middle]?.line ?? 0) > line) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  async #read(): Promise<void> {
    const stop = new AbortController();
    this.#stop = stop;
    this.busy = true;
    try {
      await this.#readRows(stop);
    } catch (error) {
      if (!stop.signal.aborted) this.error = error instanceof ApiError ? error : new ApiError('The search broke off.', 0);
    } finally {
      if (this.#stop === stop) this.busy = false;
    }
  }

  async #readRows(stop: AbortController): Promise<void> {
    const { text, regex, case: capitals } = this.#question ?? { text: '', regex: false, case: false };
    const query = queryString({ q: text, regex: regex ? 1 : 0, case: capitals ? 1 : 0, offset: this.upto, limit: KEPT_MATCHES - this.matches.length });
    const response = await this.#ask(`/api/v2/logs/${this.logid}/search${query}`, stop.signal);
    if (!response.ok || response.body === null) throw await refusal(response);
    const before = this.count;
    let found: Match[] = [];
    for await (const line of linesOf(response.body)) {
      if (stop.signal.aborted) return;
      const row = JSON.parse(line) as Row;
      if (row.type === 'error') throw new ApiError(row.error, 0);
      if (row.type === 'match') {
        found.push(row);
        continue;
      }
      if (found.length > 0) this.matches = [...this.matches, ...found];
      found = [];
      this.count = before + row.count;
      this.upto = row.upto;
    }
  }
}

async function refusal(response: Response): Promise<ApiError> {
  const body = (await response.json().catch(() => ({}))) as { error?: unknown };
  const text = typeof body.error === 'string' ? body.error : `The server answered ${response.status}.`;
  return new ApiError(text, response.status);
}

/** Marks beside the scrollbar: an SVG path in a box of a height, a tick for each place that has a match. */
export function ticks(matches: readonly Match[], total: number, height: number): string {
  const places = new Set(matches.map((match) => Math.round((match.line / Math.max(1, total)) * (height - 2))));
  return [...places].map((y) => `M0 ${y}h6v2h-6z`).join('');
}
