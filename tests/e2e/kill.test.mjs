/** The master is killed under open pages: they say so, and come back by themselves. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, open, outcome, rows, state } from './support/browser.mjs';
import { Farm } from './support/farm.mjs';
import { until, untilEqual } from './support/wait.mjs';

const BUILDS = 60;
const WORK = ['work-1', 'work-2', 'work-3', 'work-4'];
/** From the end of the master to the banner. */
const BANNER_MS = 3_500;
/** From the moment it serves again to the page being live. */
const RETURN_MS = 4_000;

const CONFIG = `
[workers.local]
kind = "local"
max-builds = 8
[schedulers.force]
kind = "force"
builders = "*"
${WORK.map((name) => `[builders.${name}]\n[[builders.${name}.steps]]\nname = "work"\nrun = "sleep 0.5; echo done"\n`).join('')}`;

let farm, browser;
before(async () => {
  farm = await Farm.raise(CONFIG);
  browser = await launch();
  await farm.connected('local');
});
after(async () => {
  await browser?.close();
  await farm?.end();
});

const byId = (pairs) => pairs.sort(([a], [b]) => a - b);

test('kill -9 of the master under open pages', { timeout: 240_000 }, async () => {
  const errors = [];
  const pages = {};
  for (const [name, path] of Object.entries({ worker: '/workers/local', queue: '/queue', now: '/' })) {
    pages[name] = (await open(browser, farm.url + path)).page;
    pages[name].on('pageerror', (error) => errors.push(`${name}: ${error.message}`));
    await pages[name].evaluate(() => (globalThis.sameDocument = true));
  }
  for (let i = 0; i < BUILDS; i += 1) await farm.force(WORK[i % WORK.length]);
  await until('builds that are shown as finished', 60_000, async () =>
    (await rows(pages.worker, 'build-row')).some(([, result]) => result === 'success'),
  );

  await farm.kill();
  const killed = performance.now();
  await Promise.all(Object.values(pages).map((page) => page.locator('[data-testid="offline-banner"]').waitFor({ timeout: BANNER_MS })));
  assert.ok(performance.now() - killed < BANNER_MS, 'the banner comes in time');

  await farm.start();
  const serving = performance.now();
  await Promise.all(Object.values(pages).map((page) => state(page, 'live').waitFor({ timeout: 30_000 })));
  const back = Math.round(performance.now() - serving);
  assert.ok(back < RETURN_MS, `live again ${back} ms after the master serves`);

  await farm.settled(120_000, ...WORK);
  const equal = await untilEqual('after the restart', 10_000, async () => {
    const builds = await farm.get('builds');
    const waiting = await farm.get('buildrequests?complete=false&claimed=false');
    return {
      actual: {
        builds: byId(await rows(pages.worker, 'build-row')),
        queue: byId(await rows(pages.queue, 'request-row')),
        running: byId(await rows(pages.now, 'running-row')),
      },
      expected: {
        builds: byId(builds.map((build) => [build.buildid, outcome(build)])),
        queue: byId(waiting.map((request) => [request.buildrequestid, ''])),
        running: byId(builds.filter((build) => !build.complete).map((build) => [build.buildid, 'running'])),
      },
    };
  });
  assert.ok(equal.builds.length >= BUILDS);
  assert.equal(equal.builds.filter(([, result]) => result === 'success').length, BUILDS, 'each request was built to its end once');
  for (const page of Object.values(pages)) assert.ok(await page.evaluate(() => globalThis.sameDocument), 'no reload');
  assert.deepStrictEqual(errors, []);
});
