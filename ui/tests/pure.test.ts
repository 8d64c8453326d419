import { describe, expect, test } from 'vitest';
import { ailments, asTree, readActor } from '../src/lib/actors';
import { queryString } from '../src/lib/api';
import { excluding, fuzzy, matches, parseFilter, type Candidate } from '../src/lib/filter';
import { fault, faults, leaves, startValues } from '../src/lib/force-form';
import { buildOutcome, ownerOf, propertyText, resultOf, shortRevision, stepOutcome, type FieldSpec } from '../src/lib/model';
import { fromHashLink, matchPath, to } from '../src/lib/router.svelte';
import { buildAt, stripParts } from '../src/lib/strip';
import { median, percentile, summarize } from '../src/lib/summary';
import { formatAgo, formatBytes, formatDuration } from '../src/lib/time';
import { whyByBuilder, whyWaiting } from '../src/lib/why';
import { build, builder, request, running, worker } from './fixtures';

describe('results', () => {
  test('have the numbers of the contract', () => {
    expect([0, 1, 2, 3, 4, 5, 6, null, -1, 9].map((code) => resultOf(code))).toEqual([
      'success', 'warnings', 'failure', 'skipped', 'exception', 'retry', 'cancelled', 'pending', 'pending', 'pending',
    ]);
    expect(buildOutcome(running())).toBe('running');
    expect(stepOutcome({ complete: false, results: null, started_at: null })).toBe('pending');
  });

  test('properties read as text', () => {
    const properties = { owners: [['Ada <ada@example.org>', 'Kim <k@example.org>'], 'x'], n: [null, 'x'] } as never;
    expect(ownerOf(properties)).toBe('Ada, Kim');
    expect(propertyText(properties, 'n')).toBe('');
    expect(shortRevision('26e8a1e0000000000000')).toBe('26e8a1e');
    expect(shortRevision('r1234')).toBe('r1234');
  });
});

describe('a builder', () => {
  const main = (number: number, results: number) => build({ number, results, properties: { branch: ['main', ''] } });
  const other = (number: number, results: number) => build({ number, results, properties: { branch: ['wip', ''] } });

  test('is what its last decisive build on a followed branch is', () => {
    const summary = summarize([other(5, 0), main(4, 6), main(3, 2), main(2, 4), main(1, 0)]);
    expect(summary.outcome).toBe('failure');
    expect(summary.streak).toBe(2);
    expect(summary.brokenSince?.number).toBe(2);
    expect(summary.streakOpen).toBe(false);
    expect(summary.last?.number).toBe(5);
  });

  test('without followed builds is what any build is', () => {
    expect(summarize([other(2, 2), other(1, 2)])).toMatchObject({ outcome: 'failure', streak: 2, streakOpen: false });
    expect(summarize([other(7, 2), other(6, 2)])).toMatchObject({ outcome: 'failure', streak: 2, streakOpen: true });
    expect(summarize([])).toMatchObject({ outcome: 'pending', streak: 0, medianS: null });
  });

  test('is newly fixed when a good build follows a broken one', () => {
    expect(summarize([main(2, 0), main(1, 2)]).fixed).toBe(true);
    expect(summarize([main(2, 0), main(1, 0)]).fixed).toBe(false);
  });

  test('is slow 25 % over its median', () => {
    const took = (number: number, seconds: number) => build({ number, complete_at: 1000 + number * 100 + seconds });
    expect(summarize([took(4, 14), took(3, 10), took(2, 10), took(1, 10)]).slow).toBe(true);
    expect(summarize([took(4, 12), took(3, 10), took(2, 10), took(1, 10)]).slow).toBe(false);
  });

  test('medians and percentiles', () => {
    expect(median([])).toBeNull();
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
    expect(percentile([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 0.95)).toBe(10);
  });
});

describe('why a request waits', () => {
  test('no worker, paused, busy, next', () => {
    const why = (workers: ReturnType<typeof worker>[], builds = [running()]) => whyWaiting(request(), builder(), workers, builds).kind;
    expect(why([])).toBe('no-worker');
    expect(why([worker({ connected_to: [] })])).toBe('no-worker');
    expect(why([worker({ configured_on: [] })])).toBe('no-worker');
    expect(why([worker({ paused: true })])).toBe('paused');
    expect(why([worker()])).toBe('busy');
    expect(why([worker(), worker({ workerid: 2, name: 'w2' })])).toBe('next');
    expect(why([worker()], [])).toBe('next');
  });

  test('names the workers and builds, once for each builder', () => {
    const why = whyByBuilder([request(), request({ buildrequestid: 2 })], { get: () => builder() }, [worker()], [running({ buildid: 42, builderid: 2 })]);
    expect(why.size).toBe(1);
    expect(why.get(1)?.sentence).toBe('Its workers are busy: w1 runs one build.');
    expect(why.get(1)?.builds.map((one) => one.buildid)).toEqual([42]);
  });

  test('tells when it waits for builds of its own builder', () => {
    const why = (builderid: number) => whyWaiting(request(), builder({ name: 'linux' }), [worker()], [running({ builderid })]).sentence;
    expect(why(1)).toBe('A worker runs one build of linux at a time, and w1 does.');
    expect(why(2)).toBe('Its workers are busy: w1 runs one build.');
  });
});

describe('times', () => {
  test('durations', () => {
    expect([0, 59, 60, 208, 3840, 90_000].map(formatDuration)).toEqual(['<1 s', '59 s', '1:00', '3:28', '1 h 04', '1 d 01 h']);
    expect(formatDuration(-5)).toBe('<1 s');
  });
  test('ages and sizes', () => {
    expect([0, 5, 65, 7200, 200_000].map((s) => formatAgo(1_000_000 - s, 1_000_000))).toEqual(['now', '5 s ago', '1 min ago', '2 h ago', '2 d ago']);
    expect(formatBytes(1_234_567)).toBe('1.2 MB');
  });
});

describe('addresses', () => {
  test('patterns', () => {
    expect(matchPath('/builders/{name}/builds/{n}', '/builders/a%2Fb/builds/4')).toEqual({ name: 'a/b', n: '4' });
    expect(matchPath('/builders/{name}', '/builders/')).toBeNull();
    expect(matchPath('/builders/{name}', '/builders/a/b')).toBeNull();
    expect(matchPath('/builders/{name}', '/builders/%E0%A4%A')).toEqual({ name: '%E0%A4%A' });
  });
  test('links are encoded', () => {
    expect(to.log('a/b c', 3, 1, 'stdio')).toBe('/builders/a%2Fb%20c/builds/3/steps/1/logs/stdio');
    expect(to.force('f', 'x y')).toBe('/force/f?builder=x%20y');
  });
  test('old hash links', () => {
    expect(fromHashLink('/', '#/builders/3/builds/12')).toBe('/builders/3/builds/12');
    expect(fromHashLink('/', '#L10')).toBeNull();
    expect(fromHashLink('/x', '#/builders')).toBeNull();
  });
  test('queries repeat lists and leave out what is not given', () => {
    expect(queryString({ a: [1, 2], b: undefined, c: false })).toBe('?a=1&a=2&c=false');
    expect(queryString({})).toBe('');
  });
});

describe('the filter', () => {
  const candidate = (name: string, more: Partial<Candidate> = {}): Candidate => ({
    builder: { name, tags: ['linux'], description: null }, outcome: 'success', running: false, workers: ['w1'], ...more,
  });
  const fits = (text: string, one: Candidate) => matches(parseFilter(text), one);

  test('terms, negation and plain text', () => {
    const arm = candidate('linux-arm64', { outcome: 'failure' });
    expect(fits('', arm)).toBe(true);
    expect(fits('lxarm', arm)).toBe(true);
    expect(fits('tag:linux result:failure worker:w1 name:arm', arm)).toBe(true);
    expect(fits('-tag:linux', arm)).toBe(false);
    expect(fits('result:broken', arm)).toBe(true);
    expect(fits('result:success', arm)).toBe(false);
    expect(fits('-', arm)).toBe(true);
    expect(fits('result:running', candidate('x', { running: true }))).toBe(true);
  });

  test('names the term that excludes all', () => {
    const all = [candidate('a'), candidate('b')];
    expect(excluding(parseFilter('tag:linux result:failure'), all)?.text).toBe('result:failure');
    expect(excluding(parseFilter('tag:x result:failure'), all)).toBeNull();
  });

  test('fuzzy means the letters in their order', () => {
    expect(fuzzy('linux', 'lx')).toBe(true);
    expect(fuzzy('linux', 'xl')).toBe(false);
    expect(fuzzy('linux', '')).toBe(true);
  });
});

describe('the force form', () => {
  const field = (more: Partial<FieldSpec>): FieldSpec => ({
    type: 'text', name: 'f', fullName: 'f', label: 'Field:', tablabel: '', tooltip: '', default: '', hide: false, required: false, multiple: false, regex: null, maxsize: null, ...more,
  });

  test('finds what is wrong', () => {
    expect(fault(field({ required: true }), ' ')).toBe('Field is needed.');
    expect(fault(field({ type: 'int' }), '1x')).toBe('A whole number is needed.');
    expect(fault(field({ type: 'int' }), '-3')).toBeNull();
    expect(fault(field({ regex: '^v\\d+$' }), 'v1')).toBeNull();
    expect(fault(field({ regex: '^v\\d+$' }), 'x')).toContain('Must fit');
    expect(fault(field({ regex: '(' }), 'x')).toBeNull();
    expect(fault(field({ type: 'list', strict: true, choices: ['a'] }), 'b')).toContain('Choose');
    expect(fault(field({ type: 'username', need_email: true }), 'ada')).toContain('address');
    expect(fault(field({ type: 'username', need_email: true }), 'Ada <ada@example.org>')).toBeNull();
    expect(fault(field({ maxsize: 3 }), 'abcd')).toContain('At most 3');
  });

  test('leaves hidden fields to the server and looks into groups', () => {
    const fields = [field({ type: 'nested', fullName: null, fields: [field({ fullName: 'a_f', required: true })] }), field({ hide: true, required: true })];
    expect(leaves(fields).length).toBe(2);
    expect(Object.keys(faults(fields, {}))).toEqual(['a_f']);
  });

  test('begins with the address, then what was sent last, then the defaults', () => {
    const fields = [field({ fullName: 'a', default: '1' }), field({ fullName: 'b', default: '2' }), field({ fullName: 'c', default: '3' })];
    const values = startValues(fields, new URLSearchParams('a=x'), { a: 'y', b: 'y' });
    expect(values).toEqual({ a: 'x', b: 'y', c: '3' });
    expect(startValues([field({ multiple: true, type: 'list', default: 'a' })], new URLSearchParams(), {})).toEqual({ f: ['a'] });
  });
});

describe('the actors', () => {
  test('are read in both forms of the report', () => {
    const at = 1_800_000_000;
    const documented = readActor({ name: 'x', kind: 'K', parent: 'p', state: 'running', restarts: 1, intensity: 5, last_exits: [{ ending: 'panicked', message: 'm', at }], queue_depth: 1, queue_bound: 2, messages: 3, slowest_handler: { name: 'H', ms: 4 }, observe: { a: 1 } });
    const raw = readActor({ name: 'x', kind: 'K', parent: 'p', state: 'running', restarts: 1, intensity: 5, exits: [{ name: '', kind: 'panicked', message: 'm', at: at * 1e6 }], queue_depth: 1, queue_bound: 2, handled: 3, slowest: { message: 'H', ms: 4 }, observed: { a: 1 } });
    expect(raw).toEqual(documented);
    expect(documented.exits[0]).toEqual({ name: '', ending: 'panicked', message: 'm', at, livedMs: null, backMs: null });
    expect(readActor({ name: 'bare' })).toMatchObject({ exits: [], slowest: null, observed: {}, policy: [] });
    const supervised = readActor({
      name: 'x', intensity: 20, own_intensity: true, period_ms: 60_000, held_ms: 1500, policy: { restart: 'permanent', 'backoff-min': '50ms', 'backoff-max': '30s', grace: '10s' },
      origins: { grace: '[supervision.kinds.K]' }, exits: [{ kind: 'hung', at, lived_ms: 90, back_ms: 12.5 }],
    });
    expect(supervised.policy).toContainEqual({ knob: 'grace', value: '10s', origin: '[supervision.kinds.K]' });
    expect(supervised.policy).toContainEqual({ knob: 'backoff', value: '50ms to 30s', origin: 'built in' });
    expect(supervised).toMatchObject({ ownIntensity: true, heldS: 1.5, exits: [{ ending: 'hung', livedMs: 90, backMs: 12.5 }] });
    expect(ailments(supervised, at)).toContain('blocks its thread');
  });

  test('stand below their supervisors', () => {
    const list = [['leaf', 'mid'], ['root', null], ['mid', 'root'], ['lost', 'nobody']].map(([name, parent]) => readActor({ name, parent }));
    expect(asTree(list).map(({ actor, depth }) => `${depth} ${actor.name}`)).toEqual(['0 root', '1 mid', '2 leaf', '0 lost']);
  });

  test('are unwell for a reason', () => {
    const now = 10_000;
    expect(ailments(readActor({ state: 'running', queue_bound: 10, queue_depth: 8 }), now)).toEqual([]);
    expect(ailments(readActor({ state: 'running', queue_bound: 10, queue_depth: 9 }), now)).toEqual(['queue over 80 %']);
    expect(ailments(readActor({ state: 'backing-off' }), now)).toEqual(['backing-off']);
    const exits = [{ ending: 'panicked', at: now - 60 }, { ending: 'stopped', at: now - 60 }, { ending: 'failed', at: now - 4000 }];
    expect(ailments(readActor({ state: 'running', last_exits: exits }), now)).toEqual(['restarted 1 × in the last hour']);
  });
});

describe('a strip', () => {
  test('tells results apart without colour', () => {
    const drawn = [0, 1, 2, 3, 4, 6].map((results) => stripParts([build({ results })], () => 0.5)[0]);
    const shapes = drawn.map((part) => `${part?.fill}|${part?.outline !== ''}|${part?.notch !== ''}`);
    // Skipped and cancelled are both hollow.
    expect(new Set(shapes).size).toBe(5);
  });

  test('ends at the right, and finds the build under a point', () => {
    const builds = [build({ number: 1 }), build({ number: 2 })];
    expect(buildAt(builds, 139)?.number).toBe(2);
    expect(buildAt(builds, 127)?.number).toBe(1);
    expect(buildAt(builds, 10)).toBeUndefined();
    expect(stripParts(builds, () => 1)[0]?.fill.startsWith('M126 2h6v17')).toBe(true);
  });
});
