/** Notifiers and the configuration on the page, live: messages as they go out, reloads as they happen. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, open } from './support/browser.mjs';
import { Farm } from './support/farm.mjs';
import { Sink } from './support/sink.mjs';
import { until } from './support/wait.mjs';

const CONFIG = (url) => `
[workers.local]
kind = "local"
[schedulers.force]
kind = "force"
builders = "*"
[builders.bad]
[[builders.bad.steps]]
name = "test"
run = "echo 'src/lib.rs:42: error: it broke' >&2; exit 3"
[builders.good]
[[builders.good.steps]]
name = "say"
run = "echo hello"
[notifiers.hook]
kind = "webhook"
url = "${url}"
allow-private = true
secret = "hush-hush-one"
builders = "bad"
`;

let farm, browser, sink;
before(async () => {
  sink = await Sink.open();
  farm = await Farm.raise(() => CONFIG(sink.url));
  browser = await launch();
  await farm.connected('local');
});
after(async () => {
  await browser?.close();
  await farm?.end();
  await sink?.close();
});

/** The rows of messages in a state. */
const deliveries = (page, state) => page.locator(`[data-testid="delivery-row"][data-state="${state}"]`);

test('a failing build appears as a message that was sent', { timeout: 120_000 }, async () => {
  const { page, context, faults } = await open(browser, `${farm.url}/notifiers`);
  await page.locator('[data-testid="notifier-row"][data-state="ready"]').getByRole('link', { name: 'hook' }).click();
  await page.locator('[data-testid="page-notifier"][data-state="ready"]').waitFor();
  assert.equal(await page.locator('[data-testid="delivery-row"]').count(), 0);

  await farm.force('bad');
  const row = deliveries(page, 'sent').first();
  await row.waitFor({ timeout: 60_000 });
  assert.equal(sink.got.length, 1, 'what the page says has happened');
  await row.getByRole('link', { name: 'bad #1' }).click();
  await page.locator('[data-testid="page-build"][data-result="failure"]').waitFor();
  assert.deepStrictEqual(faults, []);
  await context.close();
});

test('a test message shows what came of it', { timeout: 120_000 }, async () => {
  const before = sink.got.length;
  const { page, context, faults } = await open(browser, `${farm.url}/notifiers/hook`);
  await page.locator('[data-testid="send-test"]').click();
  await page.locator('[data-testid="test-outcome"][data-state="sent"]').getByText('Test message sent to').waitFor();
  await deliveries(page, 'sent').filter({ hasText: 'test message' }).waitFor();
  assert.equal(sink.got.length, before + 1);
  assert.deepStrictEqual(faults, []);
  await context.close();
});

test('while the receiver is away a message waits, with its reason, and goes out when it is back', { timeout: 120_000 }, async () => {
  const { page, context, faults } = await open(browser, `${farm.url}/notifiers/hook`);
  sink.status = 503;
  await page.locator('[data-testid="send-test"]').click();
  const waiting = deliveries(page, 'waiting');
  await waiting.filter({ hasText: '503' }).waitFor({ timeout: 60_000 });
  await page.locator('[data-testid="page-notifier"][data-state="trying again"]').waitFor();
  await page.locator('[data-testid="test-outcome"][data-state="waiting"]').getByText('503').waitFor();
  sink.status = 200;
  await page.locator('[data-testid="test-outcome"][data-state="sent"]').waitFor({ timeout: 60_000 });
  await page.locator('[data-testid="page-notifier"][data-state="ready"]').waitFor();
  assert.equal(await waiting.count(), 0);
  assert.deepStrictEqual(faults, []);
  await context.close();
});

test('a reload, a refusal and a rollback appear as they happen', { timeout: 180_000 }, async () => {
  const { page, context, faults } = await open(browser, `${farm.url}/configuration`);
  const shows = (number, refused = false) =>
    page.locator(`[data-testid="page-configuration"][data-number="${number}"][data-refused="${refused}"]`).waitFor({ timeout: 30_000 });
  const [{ masterid }] = await farm.get('masters');
  await shows(1);

  // Somebody else reloads.
  await farm.edit((text) =>
    text
      .replace('echo hello', 'echo hello again')
      .replace('hush-hush-one', 'hush-hush-two')
      .replace(`listen = "127.0.0.1:${farm.port}"`, 'listen = "127.0.0.1:1"'),
  );
  await farm.control(`masters/${masterid}`, 'reload');
  await shows(2);
  await page.locator('[data-testid="next-start"]').getByText('www.listen').waitFor();
  await page.locator('[data-testid="configuration-row"][data-id="2"] button[aria-expanded]').click();
  const difference = page.locator('[data-testid="configuration-difference"]');
  await difference.getByText('"echo hello again"').waitFor();
  const said = (await difference.innerText()).replace(/\s+/g, ' ');
  assert.match(said, /secret secret changed/);
  assert.ok(!(await page.content()).includes('hush-hush'), 'no secret is on the page');

  // A bad file: refused, and seen here with its fault.
  await farm.edit((text) => text.replace('[builders.good]', '[builders.good]\nstepz = 1'));
  await assert.rejects(farm.control(`masters/${masterid}`, 'reload'), /stepz/);
  await shows(2, true);
  await page.locator('[data-testid="refusal"]').getByText('unknown key `stepz`').waitFor();

  // It is mended, and reloaded here: first a preview, nothing is done before it is confirmed.
  await farm.edit((text) => text.replace('stepz = 1', 'tags = ["fine"]'));
  await page.locator('[data-testid="reload"]').click();
  const dialogue = page.locator('[data-testid="reload-dialog"]');
  await dialogue.getByText('["fine"]').waitFor();
  assert.equal((await farm.get('configurations')).length, 2);
  await dialogue.getByRole('button', { name: 'Reload', exact: true }).click();
  await shows(3);
  assert.equal(await page.locator('[data-testid="refusal"]').count(), 0);

  // And back to the first one.
  await page.getByRole('button', { name: 'Roll back to 1' }).click();
  await dialogue.getByRole('button', { name: 'Roll back to 1' }).click();
  await shows(4);
  await page.locator('[data-testid="configuration-row"][data-id="4"]').getByText('rollback to 1').waitFor();
  await page.locator('[data-testid="next-start"]').waitFor({ state: 'detached' });

  // A build says by which version it was made.
  await farm.force('good');
  await farm.settled(60_000, 'good');
  await page.goto(`${farm.url}/builders/good/builds/1`);
  await page.locator('[data-testid="build-configuration"]', { hasText: 'configuration 4' }).click();
  await page.locator('[data-testid="configuration-row"][data-id="4"] button[aria-expanded="true"]').waitFor();
  await difference.getByText('[builders.good]').waitFor();
  assert.deepStrictEqual(faults, []);
  await context.close();
});

test('a reload by a signal appears too', { timeout: 60_000 }, async () => {
  const { page, context, faults } = await open(browser, `${farm.url}/configuration`);
  const number = async () => Number(await page.locator('[data-testid="page-configuration"]').getAttribute('data-number'));
  const before = await number();
  await farm.edit((text) => `${text}\n[workers.another]\npassword = "hush-hush"\n`);
  farm.signal('SIGHUP');
  await until('new configuration', 30_000, async () => (await number()) === before + 1);
  await page.locator(`[data-testid="configuration-row"][data-id="${before + 1}"]`).getByText('signal').waitFor();
  assert.deepStrictEqual(faults, []);
  await context.close();
});

test('by keys alone: to the pages, a row, the dialog, and out again', { timeout: 60_000 }, async () => {
  const { page, context, faults } = await open(browser, farm.url);
  await page.keyboard.press('g');
  await page.keyboard.press('n');
  await page.locator('[data-testid="page-notifiers"]').waitFor();
  await page.locator('[data-testid="notifier-row"]').first().waitFor();
  await page.keyboard.press('j');
  await page.keyboard.press('Enter');
  await page.locator('[data-testid="page-notifier"]').waitFor();
  await page.keyboard.press('g');
  await page.keyboard.press('o');
  await page.locator('[data-testid="page-configuration"]').waitFor();
  await page.keyboard.press('R');
  const dialogue = page.locator('[data-testid="reload-dialog"]');
  await dialogue.getByText('which is in force').waitFor();
  await page.keyboard.press('Escape');
  await dialogue.waitFor({ state: 'detached' });
  assert.deepStrictEqual(faults, []);
  await context.close();
});

test('narrow: what the bar has no room for is behind More', { timeout: 60_000 }, async () => {
  const { page, context, faults } = await open(browser, farm.url, { width: 360 });
  const link = page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Configuration' });
  assert.equal(await link.isVisible(), false);
  await page.locator('[data-testid="more"]').click();
  await link.click();
  await page.locator('[data-testid="page-configuration"]').waitFor();
  assert.equal(await link.isVisible(), false, 'it closes when it has served');
  assert.deepStrictEqual(faults, []);
  await context.close();
});
