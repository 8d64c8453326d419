/**
 * Takes a picture of every page, in light and dark, at 1400 and 360 pixels, and fails if a page
 * writes an error or scrolls sideways.
 *
 *   node scripts/screenshots.mjs [--url http://127.0.0.1:8010] [--out screenshots] [--only build,now]
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';

const { values: options } = parseArgs({
  options: {
    url: { type: 'string', default: 'http://127.0.0.1:8010' },
    out: { type: 'string', default: 'screenshots' },
    only: { type: 'string', default: '' },
    browser: { type: 'string', default: '/usr/bin/chromium' },
  },
});

async function api(path) {
  const response = await fetch(`${options.url}/api/v2/${path}`, { headers: { Accept: 'application/json' } });
  return response.json();
}

/** Addresses of real things, whatever the farm holds. */
async function pages() {
  const { builders } = await api('builders?limit=100');
  const { builds: failed } = await api('builds?results=2&order=-buildid&limit=1');
  const { builds: running } = await api('builds?complete=false&order=-buildid&limit=1');
  const { workers } = await api('workers?limit=1');
  const { forceschedulers } = await api('forceschedulers?limit=1');
  const { buildrequests: waiting } = await api('buildrequests?claimed=false&limit=1');
  const path = (build) => {
    const name = builders.find((builder) => builder.builderid === build.builderid)?.name ?? '';
    return `/builders/${encodeURIComponent(name)}/builds/${build.number}`;
  };
  const list = { now: '/', builders: '/builders', queue: '/queue', workers: '/workers', actors: '/actors', actor: '/actors?actor=db-writer', settings: '/settings', missing: '/nowhere' };
  if (builders[0]) list.builder = `/builders/${encodeURIComponent(builders[0].name)}`;
  if (failed[0]) {
    list.build = path(failed[0]);
    const { steps } = await api(`builds/${failed[0].buildid}/steps?order=number`);
    const compile = steps.find((step) => step.name === 'compile') ?? steps.at(-1);
    list.log = `${path(failed[0])}/steps/${compile.number}/logs/stdio#L40-44`;
    list.properties = `${path(failed[0])}?tab=properties`;
  }
  if (running[0]) list.running = path(running[0]);
  if (waiting[0]) list.request = `/requests/${waiting[0].buildrequestid}`;
  if (workers[0]) list.worker = `/workers/${encodeURIComponent(workers[0].name)}`;
  const { notifiers } = await api('notifiers');
  list.notifiers = '/notifiers';
  notifiers.slice(0, 3).forEach((one, index) => (list[`notifier${index + 1}`] = `/notifiers/${encodeURIComponent(one.name)}`));
  const { configurations } = await api('configurations?order=-number&limit=2');
  list.configuration = '/configuration';
  if (configurations[1]) list.version = `/masters/${configurations[1].masterid}/configuration?version=${configurations[1].number}`;
  if (forceschedulers[0]) list.force = `/force/${encodeURIComponent(forceschedulers[0].name)}`;
  return list;
}

async function shoot(browser, name, address, width, scheme) {
  const context = await browser.newContext({ viewport: { width, height: width > 600 ? 900 : 740 }, colorScheme: scheme });
  const page = await context.newPage();
  const faults = [];
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
  await page.goto(options.url + address);
  await page.locator('[data-testid="live-mark"][data-state="live"]').waitFor({ timeout: 10_000 });
  await page.locator('main [data-testid^="page-"]').first().waitFor({ timeout: 10_000 });
  await page.waitForLoadState('networkidle', { timeout: 4000 }).catch(() => {});
  const sideways = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (sideways > 0) faults.push(`scrolls sideways by ${sideways} pixels`);
  await page.screenshot({ path: join(options.out, `${name}-${width}-${scheme}.png`) });
  await context.close();
  return faults.map((fault) => `${name} ${width} ${scheme}: ${fault}`);
}

const browser = await chromium.launch({
  executablePath: options.browser,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
await mkdir(options.out, { recursive: true });
const wanted = new Set(options.only.split(',').filter((name) => name !== ''));
const faults = [];
for (const [name, address] of Object.entries(await pages())) {
  if (wanted.size > 0 && !wanted.has(name)) continue;
  for (const width of [1400, 360])
    for (const scheme of ['light', 'dark']) faults.push(...(await shoot(browser, name, address, width, scheme)));
}
await browser.close();
for (const fault of faults) console.error(fault);
process.exitCode = faults.length > 0 ? 1 : 0;
