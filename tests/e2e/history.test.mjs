/** What was built of which commit, and where it stands in a long log. */

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { launch, open } from './support/browser.mjs';
import { Farm } from './support/farm.mjs';
import { until } from './support/wait.mjs';

const CONFIG = (dir) => `
[workers.local]
kind = "local"
max-builds = 4
[schedulers.all]
kind = "any-branch"
tree-stable-timer = "0s"
builders = ["linux", "mac"]
[schedulers.force]
kind = "force"
builders = "*"
[builders.linux]
tags = ["fast"]
workers = ["local"]
[[builders.linux.steps]]
name = "test"
run = "test ! -e ${dir}/breaks"
[builders.mac]
workers = ["local"]
[[builders.mac.steps]]
run = "true"
[builders.brief]
workers = ["local"]
[[builders.brief.steps]]
name = "say"
run = "echo a word"
[retention.builders.brief]
keep-good = 0
build-count = 2
log-count = 1
[builders.talks]
workers = ["local"]
[[builders.talks.steps]]
name = "count"
run = "seq -f 'line %.0f' 1 200000; while [ ! -e ${dir}/gate ]; do sleep 0.1; done; echo 'the last needle'"
`;

let farm, browser, dir;

before(async () => {
  farm = await Farm.raise((where) => {
    dir = where;
    mkdirSync(`${dir}/farm.d`);
    writeFileSync(`${dir}/farm.d/hooks.toml`, '[www]\nchange-hooks = ["base"]\n');
    return CONFIG(dir);
  });
  browser = await launch();
  await farm.connected('local');
});
after(async () => {
  await browser?.close();
  await farm?.end();
});

async function push(revision, comments) {
  const form = new URLSearchParams({ author: 'Ada <ada@example.org>', comments, revision, branch: 'main', repository: 'https://example.org/r' });
  const answer = await fetch(`${farm.url}/change_hook/base`, { method: 'POST', body: form });
  assert.equal(answer.status, 200, await answer.text());
}

test('the console shows each commit as it is built, and what it broke', { timeout: 120_000 }, async () => {
  const { page, context, faults } = await open(browser, `${farm.url}/console`);
  await page.getByText('No change is known').waitFor();
  const cell = (builder, result) => page.locator(`[data-testid="console-cell"][data-builder="${builder}"][data-result="${result}"]`);
  await push('a'.repeat(40), 'Build it well');
  // Without a reload.
  await cell('linux', 'success').waitFor();
  await cell('mac', 'success').waitFor();
  writeFileSync(`${dir}/breaks`, '');
  await push('b'.repeat(40), 'Break it');
  await cell('linux', 'failure').waitFor();
  assert.match(await cell('linux', 'failure').getAttribute('title'), /^linux #2 failure · newly broken/);
  const rows = await page.locator('[data-testid="console-row"]').allInnerTexts();
  assert.equal(rows.length, 2);
  assert.match(rows[0], /bbbbbbb\s+Break it[\s\S]*newly 1/);
  // The arrows move between cells, Enter opens the build.
  await cell('linux', 'success').focus();
  await page.keyboard.press('ArrowUp');
  await page.keyboard.press('Enter');
  await page.waitForURL('**/builders/linux/builds/2');
  await page.locator('[data-testid="changes-since-good"]').getByText('Break it').waitFor();
  assert.deepEqual(faults, []);
  await context.close();
});

test('a log is searched as a whole while it grows', { timeout: 120_000 }, async () => {
  assert.ok(!existsSync(`${dir}/gate`));
  await farm.force('talks');
  await until('a long log', 60_000, async () => {
    const [build] = await farm.get(`builds?builderid=${await farm.builderId('talks')}`);
    const steps = build === undefined ? [] : await farm.get(`builds/${build.buildid}/steps`);
    const step = steps.find((one) => one.name === 'count');
    const [log] = step === undefined ? [] : await farm.get(`steps/${step.stepid}/logs`);
    return log !== undefined && log.num_lines > 200_000;
  });
  const { page, context, faults } = await open(browser, `${farm.url}/builders/talks/builds/1`);
  await page.locator('[data-testid="log"]').waitFor();
  await page.keyboard.press('Control+f');
  await page.keyboard.type('line 19999');
  const said = page.locator('[data-testid="log-search-said"]');
  await said.getByText('1 of 11', { exact: true }).waitFor();
  await page.locator('[data-testid="log"] .here', { hasText: /line 19999$/ }).waitFor();
  await page.keyboard.press('Shift+Enter');
  await page.locator('[data-testid="log"] .here', { hasText: /line 199999$/ }).waitFor();
  await page.getByRole('button', { name: 'Only matches' }).click();
  assert.equal(await page.locator('[data-testid="log-matches"] li').count(), 11);
  await page.getByRole('searchbox', { name: 'Search the log' }).fill('needle$');
  await page.getByRole('button', { name: '.*' }).click();
  await said.getByText('nothing found').waitFor();
  writeFileSync(`${dir}/gate`, '');
  // What is written later is found, too; and the address keeps what was asked.
  await said.getByText(/^1 (line|of 1)/).waitFor({ timeout: 30_000 });
  assert.match(page.url(), /q=needle%24&regex=1/);
  await page.getByRole('searchbox', { name: 'Search the log' }).fill('(');
  await said.getByText('unclosed group').waitFor();
  assert.deepEqual(faults.filter((fault) => !fault.includes('400')), []);
  await context.close();
});

test('what retention takes goes from the pages that are open', { timeout: 120_000 }, async () => {
  const [master] = await farm.get('masters');
  const builds = async () => (await farm.get(`builds?builderid=${await farm.builderId('brief')}&complete=true`)).map((one) => one.number);
  const build = async (number) => {
    await farm.force('brief');
    await until(`build ${number}`, 30_000, async () => (await builds()).includes(number));
  };
  await build(1);
  await build(2);
  const first = await open(browser, `${farm.url}/builders/brief/builds/1`);
  const list = await open(browser, `${farm.url}/builders/brief`);
  const row = (number) => list.page.locator('[data-testid="build-row"]', { hasText: `#${number}` });
  await first.page.locator('[data-testid="log"]').getByText('a word', { exact: true }).waitFor();
  await row(1).waitFor();
  const reads = [];
  for (const { page } of [first, list]) page.on('request', (request) => reads.push(request.url()));
  // Its log first, for the builder keeps the newest alone; then all of it.
  await farm.control(`masters/${master.masterid}`, 'gc');
  await first.page.locator('[data-testid="log"]').waitFor({ state: 'detached' });
  await build(3);
  await farm.control(`masters/${master.masterid}`, 'gc');
  await first.page.getByRole('heading', { name: 'brief #1 is gone' }).waitFor();
  await row(3).waitFor();
  await row(1).waitFor({ state: 'detached' });
  assert.deepEqual(await builds(), [2, 3]);
  assert.deepEqual(reads.filter((url) => url.includes('/builds')), [], 'the pages were told, nothing was read again');
  assert.deepEqual([...first.faults, ...list.faults], []);
  await first.context.close();
  await list.context.close();
});
