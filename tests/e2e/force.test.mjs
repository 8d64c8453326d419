/** A build is forced by the dialogue and watched live: steps, coloured log, result. */

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, open } from './support/browser.mjs';
import { Farm } from './support/farm.mjs';

const HALF = 2500;
/** Prints half of the lines, waits for a file, prints the rest. */
const talk = (gate) => `
i=0
say() { awk -v from="$1" -v to="$2" 'BEGIN { for (i = from; i <= to; i++) printf "\\\\033[3%dmline %d\\\\033[0m plain\\\\n", 1 + i % 6, i }'; }
say 1 ${HALF}
while [ ! -e ${gate} ]; do sleep 0.05; done
say ${HALF + 1} ${2 * HALF}
`;

const CONFIG = (dir) => `
[workers.local]
kind = "local"
max-builds = 8
[schedulers.force]
kind = "force"
builders = "*"
[[schedulers.force.parameters]]
name = "greeting"
label = "Greeting"
required = true
[builders.talkative]
[[builders.talkative.steps]]
name = "greet"
run = 'echo greeting is "\${{ prop.greeting }}"'
[[builders.talkative.steps]]
name = "talk"
run = """${talk(join(dir, 'gate'))}"""
[[builders.talkative.steps]]
name = "end"
run = "echo over"
`;

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

test('force by the dialogue, watch it live', { timeout: 120_000 }, async () => {
  const { page, context, faults } = await open(browser, `${farm.url}/builders/talkative`);
  await page.locator('[data-testid="force"]').click();
  const dialogue = page.locator('[data-testid="force-dialog"]');
  const send = dialogue.getByRole('button', { name: /^Start/ });

  // A field that is needed is asked for, and nothing is sent without it.
  await send.click();
  await dialogue.getByRole('alert').waitFor();
  assert.equal((await farm.get('buildrequests')).length, 0);

  await dialogue.getByLabel('Greeting').fill('good <b>morning</b>');
  await send.click();
  await dialogue.waitFor({ state: 'detached' });

  // The build appears by itself, in the list of the builder that is open.
  const row = page.locator('[data-testid="build-row"]');
  await row.waitFor();
  await row.getByRole('link', { name: '#1' }).click();
  await page.locator('[data-testid="page-build"][data-result="running"]').waitFor();

  // Steps: what is done, what runs; the one that runs has its log open, at its end, in colours.
  const step = (name, result) => page.locator(`[data-testid="step-row"][data-result="${result}"]`).filter({ hasText: name });
  await step('greet', 'success').waitFor();
  await step('talk', 'running').waitFor();
  const log = page.locator('[data-testid="log"]');
  const last = log.locator('[data-line]').filter({ hasText: `line ${HALF} plain` });
  await last.waitFor();
  const [coloured, plain] = await last.evaluate((line) => {
    const texts = [...line.querySelectorAll('*')].filter((node) => node.children.length === 0);
    const colour = (wanted) => getComputedStyle(texts.find((node) => node.textContent.includes(wanted)) ?? line).color;
    return [colour('line'), colour('plain')];
  });
  assert.notEqual(coloured, plain, 'the colour of the text is drawn');
  assert.ok(!(await last.innerText()).includes('\u001b'), 'and its code is not');
  assert.ok((await log.locator('[data-line]').count()) < 300, 'only what can be seen is drawn');

  // What comes is followed, without a touch.
  await writeFile(join(farm.dir, 'gate'), '');
  await page.locator('[data-testid="page-build"][data-result="success"]').waitFor({ timeout: 30_000 });
  await step('talk', 'success').click();
  const stepid = await step('talk', 'success').getAttribute('data-id');
  const [stored] = await farm.get(`steps/${stepid}/logs`);
  await page.locator(`[data-testid="log"][data-id="${stored.logid}"][data-lines="${stored.num_lines}"]`).waitFor();
  assert.ok(stored.num_lines >= 2 * HALF);
  await log.locator('.box').press('End');
  await log.getByText(`line ${2 * HALF}`, { exact: true }).waitFor();

  // What the form sent arrived, as text.
  await step('greet', 'success').click();
  await log.getByText("greeting is good <b>morning</b>").waitFor();
  assert.deepStrictEqual(faults, []);
  await context.close();
});
