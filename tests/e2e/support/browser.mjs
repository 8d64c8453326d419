/** Debian's Chromium, and pages that remember everything that went wrong in them. */

import { execFileSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { createRequire } from 'node:module';

const root = new URL('../../../', import.meta.url);

/** Where `scripts/services` says that Chromium is; without it nothing is tested, so that is an error. */
function chromiumPath() {
  const said = execFileSync(new URL('scripts/services', root).pathname, ['where'], { encoding: 'utf8' });
  const path = /^CHROMIUM=(.+)$/m.exec(said)?.[1];
  if (path === undefined) throw new Error('no Chromium: run `make setup`');
  accessSync(path, constants.X_OK);
  return path;
}

export function launch() {
  const { chromium } = createRequire(new URL('ui/package.json', root))('playwright-core');
  return chromium.launch({
    executablePath: chromiumPath(),
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}

/**
 * Opens an address and waits until the page is drawn and live.
 * `faults` grows by whatever the console, the policy or the network has against the page.
 */
export async function open(browser, url, { width = 1400, scheme = 'light' } = {}) {
  const context = await browser.newContext({ viewport: { width, height: width > 600 ? 900 : 740 }, colorScheme: scheme });
  const page = await context.newPage();
  const faults = [];
  page.on('pageerror', (error) => faults.push(`error: ${error.stack ?? error.message}`));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) faults.push(`console: ${message.text()}`);
  });
  page.on('requestfailed', (request) => faults.push(`request: ${request.url()} ${request.failure()?.errorText}`));
  page.on('response', (response) => {
    if (response.status() >= 400) faults.push(`answer: ${response.status()} ${response.url()}`);
  });
  await page.addInitScript(() => {
    globalThis.violations = [];
    document.addEventListener('securitypolicyviolation', (event) =>
      globalThis.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`),
    );
  });
  const answer = await page.goto(url);
  await state(page, 'live').waitFor({ timeout: 20_000 });
  await page.locator('main :is([data-testid^="page-"], [data-testid="trouble"])').first().waitFor({ timeout: 20_000 });
  return { page, context, faults, status: answer?.status() };
}

/** The live mark, once it shows this state. */
export function state(page, name) {
  return page.locator(`[data-testid="live-mark"][data-state="${name}"]`);
}

/** What the rows of one kind say: `[id, result or state]`, in the order of the page. */
export function rows(page, testid) {
  return page.evaluate(
    (wanted) =>
      [...document.querySelectorAll(`[data-testid="${wanted}"]`)].map((node) => {
        const inner = node.querySelector('[data-result]');
        return [Number(node.dataset.id), node.dataset.result ?? node.dataset.state ?? inner?.dataset.result ?? ''];
      }),
    testid,
  );
}

const RESULTS = ['success', 'warnings', 'failure', 'skipped', 'exception', 'retry', 'cancelled'];

/** The result of a build in a word, as the page names it. */
export function outcome(build) {
  return build.complete ? RESULTS[build.results] : 'running';
}
