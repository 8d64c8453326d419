import { get, type ApiError } from './api';
import type { Feed } from './feed';
import { live } from './live';
import { badness, isBroken, resultOf, type Build, type Builder, type BuildRequest, type Outcome } from './model';

/** What was built of a change by one builder. */
export interface Cell {
  builderid: number;
  /** The latest build; null: none yet. */
  buildid: number | null;
  number: number | null;
  started_at: number | null;
  complete_at: number | null;
  results: number | null;
  /** How many builds there are. */
  builds: number;
  /** Requests that are not complete. */
  open: number[];
}

/** A change with its cells, newest change first. */
export interface ConsoleRow {
  changeid: number;
  author: string;
  branch: string | null;
  revision: string | null;
  revlink: string | null;
  codebase: string;
  repository: string;
  project: string;
  /** The first line of its text. */
  what: string;
  when_timestamp: number;
  cells: Cell[];
}

export interface ConsoleQuery {
  branch: string;
  tag: string;
}

/** What a cell shows. */
export interface Shown {
  cell: Cell;
  outcome: Outcome;
  /** Against the next older change of the same branch that this builder has built. */
  newly: '' | 'broken' | 'fixed';
}

/** Events that may tell of a cell that is not there yet: the matrix is read again, at most so often. */
const AGAIN_MS = 1000;
const PAGE = 50;

export function cellOutcome(cell: Cell): Outcome {
  if (cell.buildid === null) return cell.open.length > 0 ? 'pending' : 'skipped';
  return cell.complete_at === null ? 'running' : resultOf(cell.results);
}

/** Cells of rows (newest first) by builder, with what is new in each. */
export function matrix(rows: readonly ConsoleRow[]): Map<number, Shown>[] {
  const before = new Map<string, Outcome>();
  const shown: Map<number, Shown>[] = [];
  for (const row of [...rows].reverse()) {
    const cells = new Map<number, Shown>();
    for (const cell of row.cells) {
      const outcome = cellOutcome(cell);
      const key = JSON.stringify([row.repository, row.codebase, row.branch, cell.builderid]);
      const says = isBroken(outcome) || outcome === 'success' || outcome === 'warnings';
      const old = before.get(key);
      const newly = !says || old === undefined || isBroken(old) === isBroken(outcome) ? '' : isBroken(outcome) ? 'broken' : 'fixed';
      if (says) before.set(key, outcome);
      cells.set(cell.builderid, { cell, outcome, newly });
    }
    shown.push(cells);
  }
  return shown.reverse();
}

/** Columns: builders that built any of the rows, by their first tag, then by name. */
export function columns(rows: readonly ConsoleRow[], builders: readonly Builder[]): { tag: string; builders: Builder[] }[] {
  const built = new Set(rows.flatMap((row) => row.cells.map((cell) => cell.builderid)));
  const groups = new Map<string, Builder[]>();
  for (const builder of builders.filter((one) => built.has(one.builderid)).sort((a, b) => a.name.localeCompare(b.name))) {
    const tag = builder.tags[0] ?? '';
    groups.set(tag, [...(groups.get(tag) ?? []), builder]);
  }
  return [...groups]
    .map(([tag, members]) => ({ tag, builders: members }))
    .sort((a, b) => Number(a.tag === '') - Number(b.tag === '') || a.tag.localeCompare(b.tag));
}

/** The worst of some cells, for a folded group. */
export function worstOf(cells: readonly Shown[]): Outcome | null {
  return cells.map((one) => one.outcome).reduce<Outcome | null>((worst, one) => (worst === null || badness(one) > badness(worst) ? one : worst), null);
}

/** One event on rows; `null`: it may tell of a cell that is not among them. */
export function applyEvent(rows: readonly ConsoleRow[], key: string, message: unknown): readonly ConsoleRow[] | null {
  const [kind, , event] = key.split('/');
  if (kind === 'changes') return null;
  // A cell may have an older build than the one that retention has taken.
  if (event === 'deleted') return tells(rows, kind, message) ? null : rows;
  if (kind === 'buildrequests') {
    const request = message as BuildRequest;
    if (event === 'new') return null;
    return request.complete ? change(rows, request.builderid, (cell) => cell.open.includes(request.buildrequestid), (cell) => ({ ...cell, open: cell.open.filter((id) => id !== request.buildrequestid) })) : rows;
  }
  const build = message as Build;
  const state = { started_at: build.started_at, complete_at: build.complete_at, results: build.results };
  if (event !== 'new') return change(rows, build.builderid, (cell) => cell.buildid === build.buildid, (cell) => ({ ...cell, ...state }));
  const next = change(
    rows,
    build.builderid,
    (cell) => cell.buildid !== build.buildid && cell.open.includes(build.buildrequestid),
    (cell) => ({ ...cell, ...state, buildid: build.buildid, number: build.number, builds: cell.builds + 1 }),
  );
  return next;
}

/** Whether cells tell of a build or a request. */
function tells(rows: readonly ConsoleRow[], kind: string | undefined, message: unknown): boolean {
  const { builderid, buildid, number } = message as Build;
  // How many builds a cell has is known, and which is the newest; a request without builds leaves an empty cell.
  const ofBuild = (cell: Cell) => cell.buildid === buildid || (cell.builds > 1 && (cell.number ?? 0) > number);
  const ofRequest = (cell: Cell) => cell.builds === 0 && cell.open.length === 0;
  const told = kind === 'builds' ? ofBuild : ofRequest;
  return rows.some((row) => row.cells.some((cell) => cell.builderid === builderid && told(cell)));
}

/** The rows with some cells of a builder changed; the same array if none was. */
function change(rows: readonly ConsoleRow[], builderid: number, which: (cell: Cell) => boolean, to: (cell: Cell) => Cell): readonly ConsoleRow[] {
  let changed = false;
  const next = rows.map((row) => {
    if (!row.cells.some((cell) => cell.builderid === builderid && which(cell))) return row;
    changed = true;
    return { ...row, cells: row.cells.map((cell) => (cell.builderid === builderid && which(cell) ? to(cell) : cell)) };
  });
  return changed ? next : rows;
}

/** The console, kept live while its page stands. */
export class Console {
  rows = $state.raw<readonly ConsoleRow[]>([]);
  loaded = $state(false);
  more = $state(false);
  error = $state.raw<ApiError | null>(null);
  #query: ConsoleQuery;
  #limit = PAGE;
  #close: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Events since a read was begun: they are taken again on what it brings. */
  #meanwhile: [string, unknown][] | null = null;

  constructor(feed: Feed, query: ConsoleQuery) {
    this.#query = query;
    this.#close = live(feed, {
      load: () => this.#read(),
      paths: () => ['changes/*/*', 'buildrequests/*/*', 'builds/*/*'],
      onEvent: (key, message) => this.#apply(key, message),
      onError: (error) => (this.error = error),
    });
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#close();
  }

  /** Reads further back. */
  async older(): Promise<void> {
    this.#limit = Math.min(200, this.#limit * 2);
    await this.#again();
  }

  get canGrow(): boolean {
    return this.more && this.#limit < 200;
  }

  #apply(key: string, message: unknown): void {
    this.#meanwhile?.push([key, message]);
    const rows = applyEvent(this.rows, key, message);
    if (rows !== null) this.rows = rows;
    else this.#timer ??= setTimeout(() => void this.#again().catch(() => {}), AGAIN_MS);
  }

  async #again(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#meanwhile = [];
    try {
      await this.#read();
      for (const [key, message] of this.#meanwhile) this.rows = applyEvent(this.rows, key, message) ?? this.rows;
    } finally {
      this.#meanwhile = null;
    }
  }

  async #read(): Promise<string> {
    const { branch, tag } = this.#query;
    const query = { limit: this.#limit, branch: branch === '' ? undefined : branch, tag: tag === '' ? undefined : tag };
    const reply = await get<ConsoleRow>('console', query);
    this.rows = reply.items;
    this.more = reply.items.length === this.#limit;
    this.loaded = true;
    return reply.clock;
  }
}
