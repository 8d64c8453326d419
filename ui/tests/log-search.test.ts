import { describe, expect, test, vi } from 'vitest';
import { LogSearch, ticks } from '../src/lib/log/search.svelte';

const asked = { text: 'x', regex: false, case: false };
const match = (line: number) => ({ type: 'match', line, text: `x ${line}`, start: 0, end: 1 });

/** A server that sends these rows in pieces that end anywhere. */
function server(...replies: unknown[][]) {
  return vi.fn((url: string) => {
    void url;
    const text = (replies.shift() ?? []).map((row) => `${JSON.stringify(row)}\n`).join('');
    const bytes = new TextEncoder().encode(text);
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (let at = 0; at < bytes.length; at += 7) controller.enqueue(bytes.slice(at, at + 7));
        controller.close();
      },
    });
    return Promise.resolve(new Response(body));
  });
}

describe('a search of a log', () => {
  test('keeps what comes and tells how far it is', async () => {
    const ask = server([match(3), match(9), { type: 'progress', count: 2, upto: 10 }, match(40), { type: 'summary', count: 3, upto: 50, all: true }]);
    const search = new LogSearch(7, ask);
    await search.begin({ text: 'a+ b', regex: true, case: false });
    expect(ask.mock.calls[0]?.[0]).toBe('/api/v2/logs/7/search?q=a%2B+b&regex=1&case=0&offset=0&limit=10000');
    expect(search.matches.map((one) => one.line)).toEqual([3, 9, 40]);
    expect([search.count, search.upto, search.busy, search.error]).toEqual([3, 50, false, null]);
  });

  test('goes on where it stopped when the log has grown', async () => {
    const ask = server([match(3), { type: 'summary', count: 1, upto: 5, all: true }], [match(6), { type: 'summary', count: 1, upto: 8, all: true }]);
    const search = new LogSearch(7, ask);
    await search.begin(asked);
    await search.goOn(5);
    expect(ask).toHaveBeenCalledTimes(1);
    await search.goOn(8);
    expect(ask.mock.calls[1]?.[0]).toContain('offset=5&limit=9999');
    expect(search.matches.map((one) => one.line)).toEqual([3, 6]);
    expect([search.count, search.upto]).toEqual([2, 8]);
  });

  test('says why it was refused, and why it ended before its end', async () => {
    const refused = new LogSearch(7, () => Promise.resolve(new Response('{"error": "unclosed group"}', { status: 400 })));
    await refused.begin(asked);
    expect(refused.error?.message).toBe('unclosed group');
    const broken = new LogSearch(7, server([match(1), { type: 'progress', count: 1, upto: 2 }, { type: 'error', error: 'the store is away' }]));
    await broken.begin(asked);
    expect([broken.error?.message, broken.matches.length]).toEqual(['the store is away', 1]);
    await broken.goOn(100);
    expect(broken.upto).toBe(2);
  });

  test('a new question forgets the old one and its late matches', async () => {
    let late: ReadableStreamDefaultController<Uint8Array> | undefined;
    const replies = [
      new Response(new ReadableStream<Uint8Array>({ start: (controller) => void (late = controller) })),
      new Response(`${JSON.stringify(match(8))}\n${JSON.stringify({ type: 'summary', count: 1, upto: 9, all: true })}\n`),
    ];
    const search = new LogSearch(7, () => Promise.resolve(replies.shift()!));
    const first = search.begin(asked);
    await search.begin({ ...asked, text: 'y' });
    late?.enqueue(new TextEncoder().encode(`${JSON.stringify(match(1))}\n${JSON.stringify({ type: 'progress', count: 1, upto: 2 })}\n`));
    late?.close();
    await first;
    expect(search.matches.map((one) => one.line)).toEqual([8]);
    await search.begin({ ...asked, text: '' });
    expect([search.matches.length, search.count]).toEqual([0, 0]);
  });

  test('walks through its matches and around their ends', async () => {
    const search = new LogSearch(7, server([match(3), match(9), match(40), { type: 'summary', count: 3, upto: 50, all: true }]));
    await search.begin(asked);
    const from = (line: number, by: 1 | -1) => search.nearest(line, by)?.line;
    expect([from(-1, 1), from(3, 1), from(39, 1), from(40, 1)]).toEqual([3, 9, 40, 3]);
    expect([from(40, -1), from(10, -1), from(3, -1)]).toEqual([9, 9, 40]);
    expect([search.has(9), search.has(10), search.placeOf(9), search.placeOf(10)]).toEqual([true, false, 2, 0]);
  });
});

test('ticks are one for each place, however many lines', () => {
  const matches = Array.from({ length: 10_000 }, (_, line) => ({ line, text: '', start: 0, end: 0 }));
  expect(ticks(matches, 10_000, 402).split('M').length - 1).toBe(401);
  expect(ticks([], 0, 400)).toBe('');
});
