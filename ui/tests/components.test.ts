import { fireEvent, render, screen, waitFor } from '@testing-library/svelte';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import LogLine from '../src/components/LogLine.svelte';
import ForceForm from '../src/components/ForceForm.svelte';
import Result from '../src/components/Result.svelte';
import type { FieldSpec, ForceScheduler, Outcome } from '../src/lib/model';
import { store } from '../src/lib/store.svelte';
import { builder } from './fixtures';

const shared = { number: 7, marked: false, error: false, dark: false, top: 0, onpick: () => {} };

describe('a line of a log', () => {
  test('is text, never markup', () => {
    const { container } = render(LogLine, { ...shared, line: { text: '<img src=x onerror=alert(1)>', stream: 'o', state: '' } });
    expect(container.querySelector('img')).toBeNull();
    expect(container.textContent).toContain('<img src=x onerror=alert(1)>');
  });

  test('is cut at 4,096 characters until all is wanted', async () => {
    const { container } = render(LogLine, { ...shared, line: { text: 'x'.repeat(5000), stream: 'o', state: '' } });
    expect(container.querySelector('.text')?.textContent).toContain('show all (5.0 kB)');
    await fireEvent.click(screen.getByRole('button'));
    expect(container.querySelector('.text')?.textContent).toHaveLength(5000);
  });

  test('has a number that links to it and can be extended', async () => {
    const onpick = vi.fn();
    render(LogLine, { ...shared, onpick, line: { text: 'x', stream: 'e', state: '' } });
    const link = screen.getByRole('link', { name: '7' });
    expect(link.getAttribute('href')).toBe('#L7');
    await fireEvent.click(link, { shiftKey: true });
    expect(onpick).toHaveBeenCalledWith(7, true);
  });
});

test('every result has a shape and a word', () => {
  const outcomes: Outcome[] = ['success', 'warnings', 'failure', 'skipped', 'exception', 'retry', 'cancelled', 'running', 'pending'];
  const shapes = outcomes.map((outcome) => {
    const { container, unmount } = render(Result, { outcome });
    expect(container.textContent).toBe(outcome);
    const shape = container.querySelector('svg')?.innerHTML;
    unmount();
    return shape;
  });
  expect(new Set(shapes).size).toBe(outcomes.length);
});

describe('the force form', () => {
  const field = (more: Partial<FieldSpec>): FieldSpec => ({
    type: 'text', name: 'x', fullName: 'x', label: '', tablabel: '', tooltip: '', default: '', hide: false, required: false, multiple: false, regex: null, maxsize: null, ...more,
  });
  const scheduler: ForceScheduler = {
    name: 'force', button_name: 'Go', label: 'Force', enabled: true, builder_names: ['linux', 'mac'],
    all_fields: [
      field({ type: 'nested', fullName: null, fields: [field({ name: 'reason', fullName: 'reason', label: 'reason:', required: true })] }),
      field({ name: 'branch', fullName: 'branch', label: 'Branch', default: 'main' }),
      field({ name: 'hidden', fullName: 'hidden', hide: true, type: 'fixed', default: 'kept' }),
    ],
  };
  const answer = (status: number, body: unknown) =>
    Promise.resolve(new Response(JSON.stringify(body), { status, headers: { 'Content-Type': 'application/json' } }));

  beforeEach(() => {
    localStorage.clear();
    store.builders.replaceAll([[1, builder()]]);
  });
  afterEach(() => vi.unstubAllGlobals());

  test('does not send what is wrong, and says where', async () => {
    const fetch = vi.fn();
    vi.stubGlobal('fetch', fetch);
    render(ForceForm, { scheduler, builder: 'linux', ondone: () => {} });
    expect(screen.queryByRole('alert')).toBeNull();
    await fireEvent.submit(screen.getByTestId('force-form'));
    expect(screen.getByRole('alert').textContent).toContain('Reason is needed');
    expect(screen.getByLabelText(/^Reason/).getAttribute('aria-invalid')).toBe('true');
    expect(fetch).not.toHaveBeenCalled();
  });

  test('sends the values by full name, and remembers them', async () => {
    const fetch = vi.fn(() => answer(200, { jsonrpc: '2.0', id: 1, result: [5, { '1': 9 }] }));
    vi.stubGlobal('fetch', fetch);
    const ondone = vi.fn();
    render(ForceForm, { scheduler, builder: 'linux', ondone });
    await fireEvent.input(screen.getByLabelText(/^Reason/), { target: { value: 'because' } });
    await fireEvent.input(screen.getByLabelText('Branch'), { target: { value: 'dev' } });
    await fireEvent.submit(screen.getByTestId('force-form'));
    await waitFor(() => expect(ondone).toHaveBeenCalledOnce());
    const [url, init] = fetch.mock.calls[0] as unknown as [string, RequestInit];
    expect(url).toBe('/api/v2/forceschedulers/force');
    expect(JSON.parse(String(init.body))).toMatchObject({
      jsonrpc: '2.0',
      method: 'force',
      params: { reason: 'because', branch: 'dev', hidden: 'kept', builderNames: ['linux'] },
    });
    expect(JSON.parse(localStorage.getItem('greenroom.force.force') ?? '{}')).toMatchObject({ branch: 'dev' });
  });

  test('shows what the server refuses at its field', async () => {
    vi.stubGlobal('fetch', () => answer(400, { jsonrpc: '2.0', id: 1, error: { code: -32602, message: { branch: 'no such branch' } } }));
    render(ForceForm, { scheduler, builder: 'linux', ondone: () => {} });
    await fireEvent.input(screen.getByLabelText(/^Reason/), { target: { value: 'because' } });
    await fireEvent.submit(screen.getByTestId('force-form'));
    await waitFor(() => expect(screen.getByRole('alert').textContent).toContain('Branch: no such branch'));
    expect(screen.getByLabelText('Branch').getAttribute('aria-invalid')).toBe('true');
  });

  test('begins with no builder chosen when there are several', async () => {
    const fetch = vi.fn();
    vi.stubGlobal('fetch', fetch);
    render(ForceForm, { scheduler, ondone: () => {} });
    expect(screen.getAllByRole('checkbox').every((box) => !(box as HTMLInputElement).checked)).toBe(true);
    await fireEvent.input(screen.getByLabelText(/^Reason/), { target: { value: 'because' } });
    await fireEvent.submit(screen.getByTestId('force-form'));
    expect(screen.getByRole('alert').textContent).toContain('Choose at least one builder');
    expect(fetch).not.toHaveBeenCalled();
  });
});
