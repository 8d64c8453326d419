import { flushSync } from 'svelte';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Builds, KEPT_PER_BUILDER, KEPT_RECENT } from '../src/lib/builds.svelte';
import { flushPaint, Table } from '../src/lib/paint.svelte';
import { Steady } from '../src/lib/steady.svelte';
import { store } from '../src/lib/store.svelte';
import { build, builder, request, running } from './fixtures';

describe('builds', () => {
  test('keep what runs and the newest that finished, and no more', () => {
    const builds = new Builds();
    builds.put(9999, running({ buildid: 9999, number: 0, builderid: 1 }));
    for (let number = 1; number <= 500; number += 1) builds.put(number, build({ number }));
    expect(builds.peekIds().length).toBe(KEPT_PER_BUILDER + 1);
    expect(builds.summary(1).strip.map((one) => one.number)).toEqual([
      ...Array.from({ length: KEPT_PER_BUILDER }, (_, index) => 481 + index),
      0,
    ]);
    expect(builds.recent().length).toBe(KEPT_RECENT);
    expect(builds.recent()[0]?.number).toBe(500);
  });

  test('keep their properties when an event leaves them out', () => {
    const builds = new Builds();
    builds.put(1, running({ properties: { branch: ['main', 'Build'] } }));
    builds.put(1, build({ properties: {} }));
    expect(builds.peek(1)).toMatchObject({ complete: true, properties: { branch: ['main', 'Build'] } });
  });

  test('take properties that come before the build', () => {
    const builds = new Builds();
    builds.mergeProperties(1, { branch: ['main', 'Build'], secret: ['x', 'y'] });
    builds.put(1, running({}));
    expect(builds.peek(1)?.properties).toEqual({ branch: ['main', 'Build'] });
    builds.mergeProperties(1, { got_revision: ['abc', 'git'] });
    expect(builds.peek(1)?.properties).toEqual({ branch: ['main', 'Build'], got_revision: ['abc', 'git'] });
  });

  test('move from running to recent when they finish', () => {
    const builds = new Builds();
    builds.put(1, running({}));
    expect(builds.running().map((one) => one.buildid)).toEqual([1]);
    builds.put(1, build({}));
    expect(builds.running()).toEqual([]);
    expect(builds.recent().map((one) => one.buildid)).toEqual([1]);
  });

  test('that retention takes leave every list', () => {
    const builds = new Builds();
    for (let number = 1; number <= 3; number += 1) builds.put(number, build({ number, results: number === 3 ? 2 : 0 }));
    builds.remove(3);
    builds.remove(99);
    expect(builds.recent().map((one) => one.number)).toEqual([2, 1]);
    expect(builds.summary(1).strip.map((one) => one.number)).toEqual([1, 2]);
    expect([builds.summary(1).outcome, builds.peek(3)]).toEqual(['success', undefined]);
    for (let number = 3; number <= 2 + KEPT_PER_BUILDER; number += 1) builds.put(number, build({ number }));
    builds.remove(1);
    expect(builds.recent().at(-1)?.number, 'also one that its builder has no room for').toBe(2);
  });

  test('a late older version is replaced by the newer that follows', () => {
    const builds = new Builds();
    builds.replaceAll([[1, build({ results: 2 })]]);
    builds.put(1, running({}));
    builds.put(1, build({ results: 2 }));
    expect(builds.running()).toEqual([]);
    expect(builds.summary(1).outcome).toBe('failure');
  });
});

describe('a table', () => {
  let frames: FrameRequestCallback[] = [];
  beforeEach(() => {
    flushPaint();
    frames = [];
    vi.stubGlobal('requestAnimationFrame', (callback: FrameRequestCallback) => frames.push(callback));
  });
  afterEach(() => vi.unstubAllGlobals());

  test('paints a thousand updates once, in one frame', () => {
    const table = new Table<number>();
    let painted = 0;
    const stop = inRoot(() => {
      void table.size;
      painted += 1;
    });
    for (let id = 0; id < 1000; id += 1) table.put(id, id);
    flushSync();
    expect(painted).toBe(1);
    expect(frames.length).toBe(1);
    frames[0]?.(0);
    flushSync();
    expect(painted).toBe(2);
    expect(table.size).toBe(1000);
    stop();
  });
});

describe('the store', () => {
  beforeEach(() => {
    store.requests.replaceAll([]);
    store.builders.replaceAll([[1, builder({ tags: ['fast'] })]]);
  });

  test('shows requests only while they wait, and again when they are unclaimed', () => {
    store.apply('buildrequests/1/new', request({ properties: { owner: ['ada', 'x'] } }));
    store.apply('buildrequests/1/new', request({ priority: 3 }));
    expect(store.requests.peek(1)).toMatchObject({ priority: 3, properties: { owner: ['ada', 'x'] } });
    store.apply('buildrequests/1/claimed', request({ claimed: true }));
    expect(store.requests.peek(1)).toBeUndefined();
    store.apply('buildrequests/1/unclaimed', request());
    expect(store.requests.peek(1)).toBeDefined();
    store.apply('buildrequests/1/complete', request({ complete: true }));
    expect(store.requests.peek(1)).toBeUndefined();
  });

  test('keeps a builder whole when a short form comes', () => {
    store.apply('builders/1/stopped', { builderid: 1, masterid: 1, name: 'linux' });
    expect(store.builders.peek(1)).toMatchObject({ name: 'linux', tags: ['fast'] });
    store.apply('builders/2/started', { builderid: 2, masterid: 1, name: 'new' });
    expect(store.builders.peek(2)).toMatchObject({ name: 'new', tags: [] });
  });

  test('sends each event to its own table', () => {
    store.apply('builds/7/new', running({ buildid: 7, number: 7 }));
    store.apply('builds/7/properties/update', { branch: ['dev', 'Build'] });
    expect(store.builds.peek(7)?.properties.branch).toEqual(['dev', 'Build']);
  });
});

describe('a held list', () => {
  test('keeps rows and order, and counts what waits', () => {
    let source = $state([1, 2, 3]);
    const stop = inRoot(() => {
      const steady = new Steady(() => source);
      expect(steady.ids).toEqual([1, 2, 3]);
      steady.hold();
      source = [4, 1, 3];
      expect(steady.ids).toEqual([1, 2, 3]);
      expect(steady.waiting).toBe(2);
      source = [3, 2, 1];
      expect(steady.waiting).toBe(1);
      steady.refresh();
      expect(steady.ids).toEqual([3, 2, 1]);
      source = [1];
      steady.release();
      expect(steady.ids).toEqual([1]);
      expect(steady.waiting).toBe(0);
    });
    stop();
  });
});

function inRoot(run: () => void): () => void {
  return $effect.root(() => {
    $effect.pre(run);
  });
}
