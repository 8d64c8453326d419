/** Every page opens without a fault, in both themes, wide and narrow. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, open } from './support/browser.mjs';
import { Farm } from './support/farm.mjs';
import { until } from './support/wait.mjs';

/** Pages that are looked at side by side. */
const AT_ONCE = 4;

const CONFIG = (dir) => `
[workers.local]
kind = "local"
max-builds = 8
[workers.absent]
password = "nobody has it"
[schedulers.force]
kind = "force"
builders = "*"
[builders.good]
tags = ["fast"]
description = "Ends well"
workers = ["local"]
[[builders.good.steps]]
name = "say"
run = "echo hello"
[builders.bad]
workers = ["local"]
[[builders.bad.steps]]
name = "test"
run = "echo 'src/lib.rs:42: error: it broke, at a place that is named by quite a long line of text' >&2; exit 3"
[builders.warns]
workers = ["local"]
[[builders.warns.steps]]
name = "lint"
run = "echo 'warning: thin ice'"
warnings = "warning:"
warn-on-warnings = true
[builders.long]
workers = ["local"]
[[builders.long.steps]]
name = "wait"
run = "echo begun; while [ ! -e ${dir}/gate ]; do sleep 0.1; done"
[builders.waits-for-a-worker]
workers = ["absent"]
[[builders.waits-for-a-worker.steps]]
run = "true"
`;

let farm, browser;
const addresses = {};

before(async () => {
  farm = await Farm.raise(CONFIG);
  browser = await launch();
  await farm.connected('local');
  const done = ['good', 'bad', 'warns'];
  for (const name of [...done, 'long']) await farm.force(name);
  const waiting = await farm.force('waits-for-a-worker');
  await farm.settled(60_000, ...done);
  await until('build that runs', 30_000, async () => (await farm.get('builds?complete=false')).length === 1);
  const [failed] = await farm.get(`builds?builderid=${await farm.builderId('bad')}`);
  const broken = (await farm.get(`builds/${failed.buildid}/steps`)).find((step) => step.name === 'test');
  Object.assign(addresses, {
    now: '/',
    builders: '/builders',
    filtered: '/builders?q=tag:fast',
    builder: '/builders/bad',
    'failed build': '/builders/bad/builds/1',
    properties: '/builders/bad/builds/1?tab=properties',
    changes: '/builders/bad/builds/1?tab=changes',
    raw: '/builders/bad/builds/1?tab=raw',
    'warned build': '/builders/warns/builds/1',
    'running build': '/builders/long/builds/1',
    log: `/builders/bad/builds/1/steps/${broken.number}/logs/stdio#L1`,
    console: '/console',
    queue: '/queue',
    request: `/requests/${waiting}`,
    force: '/force/force?builder=good',
    workers: '/workers',
    worker: '/workers/local',
    'absent worker': '/workers/absent',
    actors: '/actors',
    'no notifiers': '/notifiers',
    configuration: '/configuration',
    version: '/masters/1/configuration?version=1',
    settings: '/settings',
  });
});
after(async () => {
  await browser?.close();
  await farm?.end();
});

/** What is wrong with an open page, in words. */
async function wrongs({ page, faults, status }) {
  await page.waitForLoadState('networkidle');
  const { sideways, violations } = await page.evaluate(() => ({
    sideways: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    violations: globalThis.violations,
  }));
  const wrong = [...faults, ...violations];
  if (status !== 200) wrong.push(`status ${status}`);
  if (sideways > 0) wrong.push(`scrolls sideways by ${sideways} pixels`);
  if ((await page.locator('[data-testid="trouble"], [data-testid="page-404"], .banner').count()) > 0) {
    wrong.push(`shows trouble: ${await page.locator('main').innerText()}`);
  }
  return wrong;
}

for (const scheme of ['light', 'dark']) {
  for (const width of [1400, 360]) {
    test(`every page opens clean: ${scheme}, ${width} pixels`, { timeout: 180_000 }, async () => {
      const found = {};
      const left = Object.entries(addresses);
      const visit = async () => {
        for (let next = left.shift(); next !== undefined; next = left.shift()) {
          const [name, address] = next;
          const opened = await open(browser, farm.url + address, { width, scheme });
          const wrong = await wrongs(opened);
          if (wrong.length > 0) found[name] = wrong;
          await opened.context.close();
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, visit));
      assert.deepStrictEqual(found, {});
    });
  }
}

test('the failed build shows its first error, and where', async () => {
  const { page, context } = await open(browser, `${farm.url}/builders/bad/builds/1`);
  const error = page.locator('[data-testid="first-error"]');
  await error.getByText('it broke').waitFor();
  await page.goto(farm.url);
  await page.locator('[data-testid="broken-row"]').getByText('it broke').waitFor();
  await context.close();
});

test('an unknown address is a 404 page with status 404', async () => {
  const { page, context, status } = await open(browser, `${farm.url}/nowhere/at/all`);
  assert.equal(status, 404);
  await page.locator('[data-testid="page-404"]').getByText('/nowhere/at/all').waitFor();
  await page.goto(`${farm.url}/builders/nosuch`);
  await page.getByText('There is no').first().waitFor();
  await context.close();
});
