import { describe, expect, test } from 'vitest';
import { applyEvent, columns, matrix, worstOf, type Cell, type ConsoleRow } from '../src/lib/console.svelte';
import { builder } from './fixtures';

const cell = (builderid: number, more: Partial<Cell> = {}): Cell => ({
  builderid, buildid: null, number: null, started_at: null, complete_at: null, results: null, builds: 0, open: [], ...more,
});
const built = (builderid: number, results: number, more: Partial<Cell> = {}) =>
  cell(builderid, { buildid: 100 * builderid, number: 1, started_at: 5, complete_at: 9, results, builds: 1, ...more });
const row = (changeid: number, cells: Cell[], branch = 'main'): ConsoleRow => ({
  changeid, author: 'a', branch, revision: null, revlink: null, codebase: '', repository: 'r', project: '', what: '', when_timestamp: 0, cells,
});
const newly = (rows: ConsoleRow[], builderid: number) => matrix(rows).map((cells) => cells.get(builderid)?.newly);

describe('the matrix', () => {
  test('marks what broke and what was mended since the next older change that says something', () => {
    const rows = [row(5, [built(1, 0)]), row(4, [built(1, 2)]), row(3, [built(1, 6)]), row(2, [built(1, 2)]), row(1, [built(1, 0)])];
    expect(newly(rows, 1)).toEqual(['fixed', '', '', 'broken', '']);
  });

  test('compares within a branch, and not with what still runs', () => {
    const running = built(1, 0, { results: null, complete_at: null });
    const rows = [row(4, [built(1, 2)]), row(3, [built(1, 2)], 'other'), row(2, [running]), row(1, [built(1, 0)])];
    expect(newly(rows, 1)).toEqual(['broken', '', '', '']);
  });

  test('has a column for each builder that built one of the rows, by tags', () => {
    const tagged = (id: number, name: string, tags: string[]) => builder({ builderid: id, name, tags });
    const builders = [tagged(1, 'z', []), tagged(2, 'b', ['linux']), tagged(3, 'a', ['linux', 'x']), tagged(4, 'idle', ['linux'])];
    const found = columns([row(1, [built(1, 0), built(2, 0)]), row(2, [built(3, 0)])], builders);
    expect(found.map((group) => [group.tag, group.builders.map((one) => one.name)])).toEqual([['linux', ['a', 'b']], ['', ['z']]]);
  });

  test('shows the worst of a folded group', () => {
    const cells = [...(matrix([row(1, [built(1, 0), built(2, 2), cell(3, { open: [7] })])])[0]?.values() ?? [])];
    expect(worstOf(cells)).toBe('failure');
    expect(worstOf([])).toBe(null);
  });
});

describe('an event', () => {
  const rows = [row(2, [cell(1, { open: [31] })]), row(1, [built(1, 0)])];
  const build = { buildid: 200, builderid: 1, buildrequestid: 31, number: 2, started_at: 20, complete_at: null, results: null };

  test('of a build moves its own cell', () => {
    const running = applyEvent(rows, 'builds/200/new', build);
    expect(running?.[0]?.cells[0]).toMatchObject({ buildid: 200, number: 2, builds: 1, complete_at: null, open: [31] });
    expect(running?.[1]).toBe(rows[1]);
    const ended = applyEvent(running ?? [], 'builds/200/finished', { ...build, complete_at: 30, results: 2 });
    expect(ended?.[0]?.cells[0]).toMatchObject({ results: 2, complete_at: 30 });
    const done = applyEvent(ended ?? [], 'buildrequests/31/complete', { buildrequestid: 31, builderid: 1, complete: true });
    expect(done?.[0]?.cells[0]?.open).toEqual([]);
  });

  test('may come twice', () => {
    const once = applyEvent(rows, 'builds/200/new', build);
    expect(applyEvent(once ?? [], 'builds/200/new', build)).toBe(once);
  });

  test('that may bring a new cell asks for the whole anew', () => {
    expect(applyEvent(rows, 'changes/3/new', {})).toBe(null);
    expect(applyEvent(rows, 'buildrequests/40/new', { buildrequestid: 40, builderid: 1, complete: false })).toBe(null);
  });

  test('that takes a build asks for the whole anew if a cell may tell of it', () => {
    const rows = [row(2, [built(1, 0, { buildid: 50, number: 7 }), built(2, 0, { buildid: 60, number: 9, builds: 2 }), cell(3)])];
    const gone = (buildid: number, builderid: number, number: number) => applyEvent(rows, `builds/${buildid}/deleted`, { buildid, builderid, number });
    expect(gone(50, 1, 7)).toBe(null);
    expect(gone(40, 1, 6), 'the cell tells of one build, which is another').toBe(rows);
    expect(gone(40, 2, 8)).toBe(null);
    expect(gone(70, 2, 10)).toBe(rows);
    const request = (builderid: number) => applyEvent(rows, 'buildrequests/3/deleted', { buildrequestid: 3, builderid, complete: true });
    expect(request(1)).toBe(rows);
    expect(request(3), 'nothing was built of it').toBe(null);
    expect(applyEvent(rows, 'changes/2/deleted', {})).toBe(null);
  });

  test('of something else changes nothing', () => {
    expect(applyEvent(rows, 'builds/999/finished', { ...build, buildid: 999 })).toBe(rows);
    expect(applyEvent(rows, 'builds/998/new', { ...build, buildid: 998, buildrequestid: 77 })).toBe(rows);
  });
});
