import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { backoffMs, Feed, feedUrl, type FeedStatus, type Socket } from '../src/lib/feed';
import { live } from '../src/lib/live';
import { ApiError } from '../src/lib/api';

class FakeSocket implements Socket {
  static all: FakeSocket[] = [];
  onopen: ((event: unknown) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  sent: { cmd: string; _id: number; since?: string; paths?: string[] }[] = [];
  closed = false;

  constructor() {
    FakeSocket.all.push(this);
  }
  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }
  close(): void {
    this.closed = true;
  }
  say(frame: unknown): void {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }
  static get last(): FakeSocket {
    const socket = FakeSocket.all.at(-1);
    if (socket === undefined) throw new Error('no socket');
    return socket;
  }
}

let statuses: FeedStatus[] = [];
let caughtUp: number[] = [];
let refused: string[] = [];

function newFeed(): Feed {
  return new Feed({
    connect: () => new FakeSocket(),
    onStatus: (status) => statuses.push(status),
    onCaughtUp: (updates) => caughtUp.push(updates),
    onRefused: (message) => refused.push(message),
    random: () => 1,
  });
}

beforeEach(() => {
  vi.useFakeTimers();
  FakeSocket.all = [];
  statuses = [];
  caughtUp = [];
  refused = [];
});
afterEach(() => vi.useRealTimers());

describe('a subscription', () => {
  test('starts at the clock of its snapshot and takes its own events', () => {
    const feed = newFeed();
    const seen: string[] = [];
    feed.subscribe({ paths: ['builds/*/*'], since: 'A', onEvent: (key) => seen.push(key), onGone: () => {} });
    feed.start();
    const socket = FakeSocket.last;
    expect(socket.sent).toEqual([]);
    socket.onopen?.({});
    expect(socket.sent).toEqual([{ cmd: 'startConsuming', _id: 1, paths: ['builds/*/*'], since: 'A' }]);
    socket.say({ msg: 'OK', code: 200, _id: 1, clock: 'A' });
    socket.say({ k: 'builds/1/new', m: {}, s: 1, c: 'B' });
    socket.say({ k: 'builds/2/new', m: {}, s: 7, c: 'Z' });
    expect(seen).toEqual(['builds/1/new']);
    expect(feed.status.state).toBe('live');
  });

  test('resumes after a break at its own last clock, quiet ones included', () => {
    const feed = newFeed();
    feed.subscribe({ paths: ['a/*'], since: 'A', onEvent: () => {}, onGone: () => {} });
    feed.subscribe({ paths: ['b/*'], since: 'A', onEvent: () => {}, onGone: () => {} });
    feed.start();
    const first = FakeSocket.last;
    first.onopen?.({});
    first.say({ msg: 'OK', code: 200, _id: 1 });
    first.say({ msg: 'OK', code: 200, _id: 2 });
    first.say({ k: 'a/1', m: {}, s: 1, c: 'B' });
    first.say({ s: 2, c: 'C' });
    first.onclose?.({ code: 4410 });
    expect(feed.status).toMatchObject({ state: 'offline' });
    vi.advanceTimersByTime(500);
    const second = FakeSocket.last;
    expect(second).not.toBe(first);
    second.onopen?.({});
    expect(feed.status.state).toBe('catching-up');
    expect(second.sent.map((sent) => [sent._id, sent.since])).toEqual([
      [1, 'B'],
      [2, 'C'],
    ]);
    second.say({ msg: 'OK', code: 200, _id: 1 });
    expect(feed.status.state).toBe('catching-up');
    second.say({ k: 'a/2', m: {}, s: 1, c: 'D' });
    second.say({ msg: 'OK', code: 200, _id: 2 });
    expect(feed.status).toMatchObject({ state: 'live', lostAt: null });
    second.say({ k: 'b/2', m: {}, s: 2, c: 'E' });
    vi.advanceTimersByTime(1000);
    expect(caughtUp).toEqual([2]);
  });

  test('that is gone asks for a new snapshot and is not resumed', () => {
    const feed = newFeed();
    const onGone = vi.fn();
    feed.subscribe({ paths: ['a/*'], since: 'old', onEvent: () => {}, onGone });
    feed.start();
    FakeSocket.last.onopen?.({});
    FakeSocket.last.say({ error: 'gone', code: 410, _id: 1 });
    expect(onGone).toHaveBeenCalledOnce();
    FakeSocket.last.onclose?.({ code: 1006 });
    vi.advanceTimersByTime(600);
    FakeSocket.last.onopen?.({});
    expect(FakeSocket.last.sent).toEqual([]);
  });

  test('that is refused is told, and does not hold up the rest', () => {
    const feed = newFeed();
    feed.subscribe({ paths: ['a/*'], since: 'A', onEvent: () => {}, onGone: () => {} });
    feed.start();
    FakeSocket.last.onopen?.({});
    FakeSocket.last.say({ error: 'not allowed', code: 403, _id: 1 });
    expect(refused).toEqual(['not allowed']);
    expect(feed.status.state).toBe('live');
  });

  test('that ended is stopped and hears nothing more', () => {
    const feed = newFeed();
    const onEvent = vi.fn();
    const stop = feed.subscribe({ paths: ['a/*'], since: 'A', onEvent, onGone: () => {} });
    feed.start();
    FakeSocket.last.onopen?.({});
    stop();
    expect(FakeSocket.last.sent.at(-1)).toEqual({ cmd: 'stopConsuming', _id: 1 });
    FakeSocket.last.say({ k: 'a/1', m: {}, s: 1, c: 'B' });
    expect(onEvent).not.toHaveBeenCalled();
  });
});

describe('the connection', () => {
  test('backs off, doubling up to 15 s, with jitter', () => {
    expect([0, 1, 2, 3, 4, 5, 9].map((attempt) => backoffMs(attempt, () => 1))).toEqual([500, 1000, 2000, 4000, 8000, 15000, 15000]);
    expect(backoffMs(3, () => 0)).toBe(2000);
  });

  test('tries at least every 2 s in the first minute, later every 15 s', () => {
    const feed = newFeed();
    feed.start();
    FakeSocket.last.onopen?.({});
    const waits: number[] = [];
    for (let i = 0; i < 45; i += 1) {
      FakeSocket.last.onclose?.({ code: 1006 });
      const wait = (feed.status.retryAt ?? 0) - Date.now();
      waits.push(wait);
      vi.advanceTimersByTime(wait);
    }
    const early = waits.slice(0, waits.findIndex((wait) => wait > 2000));
    expect(early.reduce((sum, wait) => sum + wait, 0)).toBeGreaterThanOrEqual(60_000);
    expect(early.length).toBeGreaterThanOrEqual(30);
    expect(waits.at(-1)).toBeGreaterThan(7000);
  });

  test('keeps the moment of the loss over failed attempts, and retries at once when asked', () => {
    const feed = newFeed();
    feed.start();
    FakeSocket.last.onopen?.({});
    FakeSocket.last.onclose?.({ code: 1006 });
    const lostAt = feed.status.lostAt;
    vi.advanceTimersByTime(500);
    FakeSocket.last.onclose?.({ code: 1006 });
    expect(feed.status.lostAt).toBe(lostAt);
    const before = FakeSocket.all.length;
    feed.retryNow();
    expect(FakeSocket.all.length).toBe(before + 1);
    feed.retryNow();
    expect(FakeSocket.all.length).toBe(before + 1);
  });

  test('that says nothing for 25 s counts as lost', () => {
    const feed = newFeed();
    feed.subscribe({ paths: ['a/*'], since: 'A', onEvent: () => {}, onGone: () => {} });
    feed.start();
    const socket = FakeSocket.last;
    socket.onopen?.({});
    vi.advanceTimersByTime(20_000);
    socket.say({ s: 1, c: 'A' });
    vi.advanceTimersByTime(20_000);
    expect(feed.status.state).not.toBe('offline');
    vi.advanceTimersByTime(6_000);
    expect(feed.status.state).toBe('offline');
    expect(socket.closed).toBe(true);
  });

  test('survives frames that are not JSON', () => {
    const feed = newFeed();
    feed.start();
    FakeSocket.last.onopen?.({});
    FakeSocket.last.onmessage?.({ data: '{' });
    FakeSocket.last.onmessage?.({ data: new ArrayBuffer(1) });
    expect(feed.status.state).toBe('live');
  });

  test('has the scheme of the page', () => {
    expect(feedUrl({ protocol: 'https:', host: 'ci.example.org' })).toBe('wss://ci.example.org/ws');
    expect(feedUrl({ protocol: 'http:', host: 'localhost:8010' })).toBe('ws://localhost:8010/ws');
  });
});

describe('live', () => {
  test('takes a new snapshot when its clock is gone', async () => {
    const feed = newFeed();
    feed.start();
    FakeSocket.last.onopen?.({});
    const load = vi.fn().mockResolvedValueOnce('A').mockResolvedValueOnce('B');
    const close = live(feed, { load, paths: () => ['x/*'], onEvent: () => {} });
    await vi.advanceTimersByTimeAsync(0);
    FakeSocket.last.say({ error: 'gone', code: 410, _id: 1 });
    await vi.advanceTimersByTimeAsync(0);
    expect(FakeSocket.last.sent.map((sent) => sent.since)).toEqual(['A', 'B']);
    close();
  });

  test('tries a failed read again, but not one that is not allowed', async () => {
    const feed = newFeed();
    const errors: (number | null)[] = [];
    const load = vi.fn().mockRejectedValueOnce(new ApiError('away', 0)).mockResolvedValueOnce('A');
    const close = live(feed, { load, paths: () => [], onEvent: () => {}, onError: (error) => errors.push(error?.status ?? null) });
    await vi.advanceTimersByTimeAsync(600);
    expect(errors).toEqual([0, null]);
    close();
    const missing = vi.fn().mockRejectedValue(new ApiError('no', 404));
    live(feed, { load: missing, paths: () => [], onEvent: () => {} });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(missing).toHaveBeenCalledOnce();
  });

  test('that is closed while it reads does not subscribe', async () => {
    const feed = newFeed();
    feed.start();
    FakeSocket.last.onopen?.({});
    const close = live(feed, { load: () => Promise.resolve('A'), paths: () => ['x/*'], onEvent: () => {} });
    close();
    await vi.advanceTimersByTimeAsync(0);
    expect(FakeSocket.last.sent).toEqual([]);
  });
});
