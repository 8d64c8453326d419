/** The connection is lost while builds run: nothing is shown that is not so, nothing is missing after the return. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { launch, open, outcome, rows, state } from './support/browser.mjs';
import { Farm } from './support/farm.mjs';
import { Proxy } from './support/proxy.mjs';
import { until, untilEqual } from './support/wait.mjs';

const BUILDS = 200;
/** How many of them are asked for just before the return, so that some run then, however fast the machine is. */
const LATE = 50;
/** How long the connection is down: the length of the story, not a wait for anything. */
const CUT_MS = 10_000;
/** Builders of the builds: each runs one at a time on a worker. */
const MIXED = ['mixed-1', 'mixed-2', 'mixed-3', 'mixed-4'];
const WANTS = ['good', 'good', 'good', 'warning', 'bad'];

const CONFIG = `
[workers.local]
kind = "local"
max-builds = 8
[workers.spare]
kind = "local"
[workers.absent]
password = "nobody has it"
[schedulers.force]
kind = "force"
builders = "*"
[[schedulers.force.parameters]]
name = "want"
kind = "choice"
choices = ["good", "warning", "bad"]
default = "good"
${MIXED.map(
  (name) => `[builders.${name}]
workers = ["local"]
[[builders.${name}.steps]]
name = "work"
run = "sleep 0.3; echo \${{ prop.want }}; test \${{ prop.want }} != bad"
warnings = "^warning"
warn-on-warnings = true
`,
).join('')}[builders.waiting]
workers = ["absent"]
[[builders.waiting.steps]]
run = "true"
[builders.idle]
workers = ["spare"]
[[builders.idle.steps]]
run = "true"
`;

const PATHS = { now: '/', queue: '/queue', workers: '/workers', ...Object.fromEntries(MIXED.map((name) => [name, `/builders/${name}`])) };

let farm, browser, proxy;
before(async () => {
  farm = await Farm.raise(CONFIG);
  proxy = await Proxy.to(farm.port);
  browser = await launch();
  await farm.connected('local', 'spare');
});
after(async () => {
  await browser?.close();
  await proxy?.close();
  await farm?.end();
});

const byId = (pairs) => pairs.sort(([a], [b]) => a - b);
const finishedLast = (a, b) => b.complete_at - a.complete_at || b.buildid - a.buildid;

/** What each page shows, and what it must show by REST. */
async function both(pages) {
  const [builds, waiting, workers] = await Promise.all([
    farm.get('builds'),
    farm.get('buildrequests?complete=false&claimed=false'),
    farm.get('workers'),
  ]);
  const running = builds.filter((build) => !build.complete);
  const stateOf = (worker) =>
    worker.connected_to.length === 0 ? 'offline' : worker.paused ? 'paused' : running.some((build) => build.workerid === worker.workerid) ? 'busy' : 'idle';
  const expected = {
    builds: byId(builds.map((build) => [build.buildid, outcome(build)])),
    running: byId(running.map((build) => [build.buildid, 'running'])),
    recent: builds.filter((build) => build.complete).sort(finishedLast).slice(0, 12).map((build) => [build.buildid, outcome(build)]),
    queue: byId(waiting.map((request) => [request.buildrequestid, ''])),
    workers: byId(workers.map((worker) => [worker.workerid, stateOf(worker)])),
  };
  const actual = {
    builds: byId((await Promise.all(MIXED.map((name) => rows(pages[name], 'build-row')))).flat()),
    running: byId(await rows(pages.now, 'running-row')),
    recent: await rows(pages.now, 'recent-build'),
    queue: byId(await rows(pages.queue, 'request-row')),
    workers: byId((await rows(pages.workers, 'worker-row')).map(([id, word]) => [id, word.split(',')[0]])),
  };
  return { actual, expected };
}

test('a cut of 10 s during 200 builds', { timeout: 300_000 }, async () => {
  const spare = (await farm.get('workers')).find((worker) => worker.name === 'spare');
  const waiting = [];
  for (let i = 0; i < 5; i += 1) waiting.push(await farm.force('waiting'));

  const pages = {};
  for (const [name, path] of Object.entries(PATHS)) {
    pages[name] = (await open(browser, proxy.url + path)).page;
    await pages[name].evaluate(() => (globalThis.sameDocument = true));
  }
  await untilEqual('before', 10_000, () => both(pages));

  const force = async (from, to) => {
    for (let i = from; i < to; i += 1) await farm.force(MIXED[i % MIXED.length], { want: WANTS[i % WANTS.length] });
  };
  await force(0, BUILDS - LATE);
  const finished = async () => (await farm.get('builds?complete=true')).length;
  await until('builds that are shown as finished', 60_000, async () => (await rows(pages.now, 'recent-build')).length >= 8);

  proxy.cut();
  const cutAt = performance.now();
  const before = await finished();
  for (const page of Object.values(pages)) {
    await page.locator('[data-testid="offline-banner"]').waitFor({ timeout: 4_000 });
    await state(page, 'offline').waitFor({ timeout: 1_000 });
  }
  assert.ok(performance.now() - cutAt < 4_000, 'the banner stands on every page in time');

  // Meanwhile the farm goes on: builds, new and cancelled requests, a worker that is paused.
  const seen = async () => Promise.all(MIXED.map((name) => rows(pages[name], 'build-row')));
  const shown = await seen();
  await farm.control(`workers/${spare.workerid}`, 'pause', { reason: 'for the story' });
  for (const id of waiting.slice(0, 2)) await farm.control(`buildrequests/${id}`, 'cancel', { reason: 'for the story' });
  for (let i = 0; i < 3; i += 1) await farm.force('waiting');
  await until('builds that end unseen', CUT_MS * 3, async () => (await finished()) > before + 20);
  await pause(Math.max(0, CUT_MS - (performance.now() - cutAt)));
  await force(BUILDS - LATE, BUILDS);
  assert.deepStrictEqual(await seen(), shown, 'nothing came through the cut');
  assert.ok(proxy.refused > 0, 'the page tried to come back');
  for (const page of Object.values(pages)) {
    assert.equal(await page.locator('[data-testid="offline-banner"]').count(), 1, 'the banner stands until the return');
  }
  assert.ok((await farm.get('buildrequests?complete=false&claimed=false')).length > 10, 'the cut lay within the builds');

  proxy.mend();
  for (const page of Object.values(pages)) {
    await state(page, 'live').waitFor({ timeout: 20_000 });
    await page.locator('[data-testid="offline-banner"]').waitFor({ state: 'detached', timeout: 1_000 });
  }
  await farm.settled(120_000, ...MIXED);
  const equal = await untilEqual('after the return', 10_000, () => both(pages));
  assert.equal(equal.builds.length, BUILDS);
  for (const result of ['success', 'warnings', 'failure']) {
    assert.ok(equal.builds.some(([, one]) => one === result), `some end with ${result}`);
  }
  assert.equal(equal.queue.length, 6);
  for (const page of Object.values(pages)) assert.ok(await page.evaluate(() => globalThis.sameDocument), 'no reload');
});
