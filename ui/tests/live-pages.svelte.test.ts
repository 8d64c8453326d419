import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Configurations } from '../src/lib/configuration.svelte';
import { BuildDetail, BuilderHistory } from '../src/lib/detail.svelte';
import type { Subscription } from '../src/lib/feed';
import type { ConfigurationVersion, Delivery } from '../src/lib/model';
import { KEPT_SETTLED, Notifiers } from '../src/lib/notifiers.svelte';
import { store } from '../src/lib/store.svelte';
import { build } from './fixtures';

/** Answers by path, without the query; what is asked is written down. */
let answers: Record<string, () => object>;
let asked: string[];
let feed: Subscription | null;

beforeEach(() => {
  vi.useFakeTimers();
  [asked, feed] = [[], null];
  vi.stubGlobal('fetch', (url: string) => {
    asked.push(url);
    const path = url.replace('/api/v2/', '').replace(/\?.*/, '');
    const body = answers[path]?.();
    const headers = { 'Content-Type': 'application/json', 'Greenroom-Clock': '7' };
    return Promise.resolve(new Response(JSON.stringify(body ?? { error: 'not found' }), { status: body === undefined ? 404 : 200, headers }));
  });
  vi.spyOn(store.feed, 'subscribe').mockImplementation((subscription) => {
    feed = subscription;
    return () => {};
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

async function subscribed(): Promise<Subscription> {
  await vi.advanceTimersByTimeAsync(1);
  if (feed === null) throw new Error('nothing was subscribed to');
  return feed;
}

describe('notifiers', () => {
  const delivery = (id: number, state: Delivery['state'], more: Partial<Delivery> = {}): Delivery => ({
    deliveryid: id, notifier: 'team', created_at: id, due_at: id, subject: `#${id}`, buildid: null, state, attempts: 0, target: null, reason: null,
    settled_at: state === 'waiting' ? null : id, ...more,
  });
  beforeEach(() => {
    answers = {
      'notifiers/team': () => ({ notifiers: [{ notifierid: 1, name: 'team', kind: 'irc', masterid: 1 }], meta: {} }),
      'notifiers/team/deliveries': () => ({ deliveries: [], meta: { total: 0 } }),
      actors: () => ({ actors: [{ name: 'notifier/team', kind: 'notifier', state: 'running' }], meta: {} }),
      builds: () => ({ builds: [{ buildid: 9, number: 3, builderid: 1, properties: {} }], meta: {} }),
    };
  });

  test('keep what the server keeps, however much comes', async () => {
    const page = new Notifiers('team');
    const { onEvent, paths, since } = await subscribed();
    expect(since).toBe('7');
    expect(paths).toContain('notifiers/team/deliveries/*/*');
    onEvent('notifiers/team/deliveries/1/new', delivery(1, 'waiting'));
    for (let id = 2; id <= 400; id += 1) onEvent(`notifiers/team/deliveries/${id}/settled`, delivery(id, id % 2 === 0 ? 'sent' : 'silenced'));
    const rows = page.of('team');
    expect(rows.length).toBe(2 * KEPT_SETTLED + 1);
    expect(rows.slice(0, 3).map((row) => row.deliveryid)).toEqual([1, 400, 399]);
    onEvent('notifiers/team/deliveries/1/settled', delivery(1, 'failed', { settled_at: 500 }));
    expect(page.of('team')[0]).toMatchObject({ deliveryid: 1, state: 'failed' });
    page.close();
  });

  test('look at their actors when something happens, and never else', async () => {
    const page = new Notifiers('team');
    const { onEvent } = await subscribed();
    const looks = () => asked.filter((url) => url.includes('/actors')).length;
    await vi.advanceTimersByTimeAsync(600_000);
    expect(looks()).toBe(1);
    for (let id = 1; id <= 100; id += 1) onEvent(`notifiers/team/deliveries/${id}/new`, delivery(id, 'waiting'));
    await vi.advanceTimersByTimeAsync(600_000);
    expect(looks()).toBe(2);
    page.close();
    window.dispatchEvent(new Event('focus'));
    await vi.advanceTimersByTimeAsync(600_000);
    expect(looks()).toBe(2);
  });

  test('learn each build that a message is about once', async () => {
    const page = new Notifiers('team');
    const { onEvent } = await subscribed();
    onEvent('notifiers/team/deliveries/1/new', delivery(1, 'waiting', { buildid: 9 }));
    onEvent('notifiers/team/deliveries/1/settled', delivery(1, 'sent', { buildid: 9 }));
    await vi.advanceTimersByTimeAsync(10);
    expect(page.builds.get(9)?.number).toBe(3);
    expect(asked.filter((url) => url.includes('/builds')).length).toBe(1);
    page.close();
  });
});

describe('configurations', () => {
  const version = (number: number, more: Partial<ConfigurationVersion> = {}): ConfigurationVersion => ({
    configurationid: number, masterid: 1, number, cause: 'reload', restores: null, who: 'ada', created_at: number * 100, difference: null, digest: '', ...more,
  });
  let state: { number: number; refused_at: number | null; refusal: string | null; next_start: string[] };
  beforeEach(() => {
    state = { number: 1, refused_at: null, refusal: null, next_start: [] };
    answers = {
      'masters/1/configurations': () => ({ configurations: [version(1)], meta: { total: 1 } }),
      'masters/1/reload': () => ({ reloads: [state], meta: {} }),
    };
  });

  test('a refusal is seen when an act was answered', async () => {
    const page = new Configurations(1);
    const { onEvent, paths } = await subscribed();
    expect(paths).toContain('control/acts/*/answered');
    expect(page.refusal()).toBeNull();
    state = { ...state, refused_at: 150, refusal: 'error: it is broken' };
    onEvent('control/acts/5/answered', { reason: '' });
    await vi.advanceTimersByTimeAsync(1);
    expect(page.refusal()).toEqual({ at: 150, text: 'error: it is broken' });
    // A good reload since then: nobody is frightened until the rest is read.
    onEvent('masters/1/configurations/2/new', version(2));
    expect(page.refusal()).toBeNull();
    page.close();
  });

  test('a new version is shown at once, and what it leaves for the next start when it is in force', async () => {
    const page = new Configurations(1);
    const { onEvent } = await subscribed();
    onEvent('masters/1/configurations/2/new', version(2));
    expect(page.newestFirst().map((one) => one.number)).toEqual([2, 1]);
    await vi.advanceTimersByTimeAsync(10);
    state = { ...state, number: 2, next_start: ['www.listen'] };
    await vi.advanceTimersByTimeAsync(1000);
    expect(page.reload?.next_start).toEqual(['www.listen']);
    const reads = asked.length;
    await vi.advanceTimersByTimeAsync(600_000);
    expect(asked.length).toBe(reads);
    page.close();
  });

  test('a master that cannot be asked is no fault', async () => {
    delete answers['masters/1/reload'];
    const page = new Configurations(1);
    await subscribed();
    expect(page.versions.loaded).toBe(true);
    expect(page.reload).toBeNull();
    expect(page.error).toBeNull();
    page.close();
  });
});

describe('what retention takes', () => {
  const logs = [{ logid: 5, stepid: 8, slug: 'stdio', name: 'stdio', type: 's', num_lines: 1, complete: true }];
  const steps = [{ stepid: 8, number: 0, name: 'compile', buildid: 1, complete: true, logs }];
  const parts = { steps, changes: [], request: null, buildset: null, neighbours: { previous: null, next: null }, changes_since_good: { changes: [], good: null, more: false } };
  beforeEach(() => {
    answers = {
      'builders/linux/builds/1': () => ({ builds: [{ ...build(), ...parts }], meta: {} }),
      'builders/1/builds': () => ({ builds: [build({ number: 2 }), build({ number: 1 })], meta: {} }),
    };
  });

  test('leaves the page of a build: its logs alone, or all of it', async () => {
    const page = new BuildDetail('linux', 1);
    const { onEvent, paths } = await subscribed();
    expect(paths).toContain('steps/8/logs/*/deleted');
    expect(page.logsOf(8).length).toBe(1);
    onEvent('steps/8/logs/stdio/deleted', logs[0]);
    expect([page.logsOf(8).length, page.error]).toEqual([0, null]);
    onEvent('builds/1/deleted', build());
    expect(page.error?.status).toBe(410);
  });

  test('leaves the history of a builder', async () => {
    const page = new BuilderHistory(1);
    const { onEvent } = await subscribed();
    onEvent('builders/1/builds/1/deleted', build({ number: 1 }));
    expect(page.newestFirst().map((one) => one.number)).toEqual([2]);
  });
});
