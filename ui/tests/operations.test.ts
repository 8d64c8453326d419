import { fireEvent, render, screen, waitFor } from '@testing-library/svelte';
import { afterEach, describe, expect, test, vi } from 'vitest';
import DifferenceView from '../src/components/DifferenceView.svelte';
import ReloadDialog from '../src/components/ReloadDialog.svelte';
import { readActor } from '../src/lib/actors';
import { Refused, reconfigure } from '../src/lib/configuration.svelte';
import { causeOf, changeOf, summary, tableName } from '../src/lib/difference';
import type { ConfigurationVersion, Delivery, Difference, Notifier } from '../src/lib/model';
import { deliveryOutcome, notifierState, tally } from '../src/lib/notifier-state';

const notifier = (more: Partial<Notifier> = {}): Notifier => ({ notifierid: 1, name: 'team', kind: 'irc', masterid: 1, ...more });
const delivery = (more: Partial<Delivery> = {}): Delivery => ({
  deliveryid: 1, notifier: 'team', created_at: 10, due_at: 10, subject: 'linux #4: failure', buildid: 4, state: 'sent', attempts: 1, target: '#builds',
  reason: null, settled_at: 11, ...more,
});
const masters = new Map([[1, 'main']]);
const connection = (state: string, last_error: string | null = null) =>
  readActor({ name: 'irc/team', kind: 'irc-connection', state: 'running', observed: { state, last_error } });

describe('the state of a notifier', () => {
  const state = (deliveries: Delivery[], more: object = {}, one = notifier()) => notifierState(one, { deliveries, masters, ...more });

  test('tells who is gone from the configuration, and whose master stopped', () => {
    expect(state([], {}, notifier({ masterid: null })).word).toBe('not configured');
    expect(state([], {}, notifier({ masterid: 2 }))).toMatchObject({ outcome: 'failure', word: 'nobody runs it' });
  });

  test('is that of its actor, its connection, its messages, the worst first', () => {
    const down = readActor({ name: 'notifier/team', kind: 'notifier', state: 'backing-off', exits: [{ message: 'no route', at: 5, kind: 'failed' }] });
    expect(state([], { actor: down })).toEqual({ word: 'backing off', outcome: 'failure', why: 'no route' });
    expect(state([], { connection: connection('waiting', 'refused') })).toEqual({ word: 'not connected', outcome: 'retry', why: 'refused' });
    expect(state([], { connection: connection('ready', 'an old fault') })).toEqual({ word: 'connected', outcome: 'success', why: '' });
    const tried = delivery({ state: 'waiting', attempts: 2, reason: 'no answer' });
    expect(state([tried, delivery()])).toEqual({ word: 'trying again', outcome: 'retry', why: 'no answer' });
    expect(state([delivery({ state: 'waiting', attempts: 0 }), delivery()]).word).toBe('sending');
    expect(state([]).word).toBe('ready');
  });

  test('a message that was silenced says nothing of how it is', () => {
    const silenced = delivery({ state: 'silenced', reason: 'like the one before' });
    expect(state([silenced, delivery({ state: 'failed', reason: '410 Gone' })])).toMatchObject({ outcome: 'failure', why: '410 Gone' });
    expect(state([silenced, delivery()]).outcome).toBe('success');
  });
});

test('every state of a message has a shape of its own', () => {
  const states = ['waiting', 'sent', 'failed', 'dropped', 'silenced'] as const;
  expect(new Set(states.map((state) => deliveryOutcome({ state, attempts: 0 }))).size).toBe(states.length);
  expect(deliveryOutcome({ state: 'waiting', attempts: 1 })).toBe('retry');
  expect(tally([delivery(), delivery({ state: 'waiting' }), delivery()])).toEqual([['waiting', 1], ['sent', 2]]);
});

const difference: Difference = {
  components: [
    { section: 'builders', name: 'a b', change: 'added' },
    { section: 'builders', name: 'x', change: 'added' },
    { section: 'change-sources', name: 'repo', change: 'changed', keys: [{ key: 'password', change: 'changed', secret: true }], more_keys: 2 },
    { section: 'www', change: 'changed', keys: [{ key: 'url', change: 'changed', from: '"<b>old</b>"', to: '"new"' }] },
  ],
};

describe('a difference', () => {
  test('is summed up as the program does', () => {
    expect(summary(difference)).toBe('2 builders added, 1 change source changed, [www] changed');
    expect(summary({ components: [], more: 0 })).toBe('nothing differs');
    expect(summary({ ...difference, more: 3 })).toContain(', 3 more');
    expect(difference.components.slice(0, 2).map(tableName)).toEqual(['[builders."a b"]', '[builders.x]']);
  });

  test('is drawn as text, a secret by its name alone', () => {
    const { container } = render(DifferenceView, { difference });
    expect(container.querySelector('b')).toBeNull();
    expect(container.querySelector('del')?.textContent).toContain('"<b>old</b>"');
    expect(container.querySelector('ins')?.textContent).toContain('"new"');
    const secret = [...container.querySelectorAll('.keys li')].find((row) => row.textContent?.includes('password'));
    expect(secret?.textContent?.replace(/\s+/g, ' ')).toContain('password secret changed');
    expect(secret?.querySelector('del, ins')).toBeNull();
    expect(container.textContent).toContain('… and 2 more keys');
  });

  test('of a version has its cause in words', () => {
    const version = { number: 1, cause: 'start', restores: null, difference: null } as ConfigurationVersion;
    expect(changeOf(version)).toBe('the first one');
    expect(changeOf({ ...version, number: 2 })).toContain('not compared');
    expect(causeOf({ cause: 'rollback', restores: 5 })).toBe('rollback to 5');
  });
});

describe('a reload', () => {
  const answer = (status: number, body: object) =>
    Promise.resolve(new Response(JSON.stringify({ jsonrpc: '2.0', id: 1, ...body }), { status, headers: { 'Content-Type': 'application/json' } }));
  const told = (more: object = {}) => ({ result: { number: 4, previous: 4, difference, next_start: ['www.listen'], notes: [], warnings: '', ...more } });
  const sent = (fetch: ReturnType<typeof vi.fn>) =>
    fetch.mock.calls.map((call) => {
      const { method, params } = JSON.parse(String((call[1] as RequestInit).body)) as { method: string; params: object };
      return { url: String(call[0]), method, params };
    });
  // jsdom knows no modal dialogs.
  HTMLDialogElement.prototype.showModal = function show(this: HTMLDialogElement) {
    this.open = true;
  };
  HTMLDialogElement.prototype.close = function close(this: HTMLDialogElement) {
    this.open = false;
    this.dispatchEvent(new Event('close'));
  };
  afterEach(() => vi.unstubAllGlobals());

  test('is looked at first, and carried out only when it is wanted', async () => {
    const fetch = vi.fn(() => answer(200, told()));
    vi.stubGlobal('fetch', fetch);
    const onclose = vi.fn();
    render(ReloadDialog, { masterid: 3, rollback: null, onclose });
    const button = await screen.findByRole('button', { name: 'Reload' });
    expect(screen.getByTestId('difference').textContent).toContain('[builders.x]');
    expect(screen.getByText('www.listen')).toBeTruthy();
    expect(sent(fetch)).toEqual([{ url: '/api/v2/masters/3', method: 'reload', params: { 'dry-run': true } }]);
    await fireEvent.click(button);
    await waitFor(() => expect(onclose).toHaveBeenCalledOnce());
    expect(sent(fetch)[1]).toEqual({ url: '/api/v2/masters/3', method: 'reload', params: { 'dry-run': false } });
  });

  test('back to a version names that version', async () => {
    const fetch = vi.fn(() => answer(200, told({ notes: ['the files on disk are not changed'] })));
    vi.stubGlobal('fetch', fetch);
    render(ReloadDialog, { masterid: 1, rollback: 2, onclose: () => {} });
    await fireEvent.click(await screen.findByRole('button', { name: 'Roll back to 2' }));
    expect(screen.getByText('The files on disk are not changed.')).toBeTruthy();
    expect(sent(fetch).at(-1)).toEqual({ url: '/api/v2/masters/1', method: 'rollback', params: { 'dry-run': false, number: 2 } });
  });

  test('that is refused shows the faults, and cannot be carried out', async () => {
    const fault = 'error[unknown-key]: unknown key `stepz`';
    vi.stubGlobal('fetch', () => answer(400, { error: { code: -32602, message: { text: fault, faults: [] } } }));
    render(ReloadDialog, { masterid: 1, rollback: null, onclose: () => {} });
    expect((await screen.findByTestId('faults')).textContent).toBe(fault);
    expect(screen.queryByRole('button', { name: 'Reload' })).toBeNull();
    await expect(reconfigure(1, { rollback: null, dryRun: true })).rejects.toBeInstanceOf(Refused);
  });
});
