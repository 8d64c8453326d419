import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { inlineScripts } from '../scripts/csp-plugin.ts';

const built = existsSync('dist/index.html');

/** These read what `npm run build` wrote; without it they fail rather than pass unseen. */
test('the page is built', () => {
  expect(built, 'run `npm run build` first').toBe(true);
});

describe.runIf(built)('the built page', () => {
  const html = built ? readFileSync('dist/index.html', 'utf8') : '';
  const linked = (pattern: RegExp) => [...html.matchAll(pattern)].map((match) => `dist${match[1]}`);
  const size = (files: string[]) => files.reduce((sum, file) => sum + gzipSync(readFileSync(file)).length, 0);
  const scripts = linked(/(?:src|href)="(\/assets\/[^"]+\.js)"/g);
  const styles = linked(/href="(\/assets\/[^"]+\.css)"/g);

  test('first route: at most 90 kB of script and 15 kB of style, gzipped', () => {
    expect(scripts.length).toBeGreaterThan(0);
    expect(styles.length).toBe(1);
    expect(size(scripts)).toBeLessThanOrEqual(90_000);
    expect(size(styles)).toBeLessThanOrEqual(15_000);
  });

  test('every other chunk: at most 30 kB', () => {
    for (const name of readdirSync('dist/assets').filter((one) => one.endsWith('.js'))) {
      const file = `dist/assets/${name}`;
      if (!scripts.includes(file)) expect(size([file]), name).toBeLessThanOrEqual(30_000);
    }
  });

  test('needs no policy but self and the one theme line', () => {
    const inline = inlineScripts(html);
    expect(inline.length).toBe(1);
    const hash = `'sha256-${createHash('sha256').update(inline[0] ?? '').digest('base64')}'`;
    const csp = JSON.parse(readFileSync('dist/csp.json', 'utf8')) as { 'script-src': string[]; policy: string };
    expect(csp['script-src']).toEqual([hash]);
    expect(csp.policy).toContain(`script-src 'self' ${hash};`);
    expect(html).not.toMatch(/\sstyle=|<style|\son\w+=|data:/);
  });

  test('asks nothing of other origins', () => {
    expect(html).not.toMatch(/(src|href)="(https?:)?\/\//);
    for (const name of readdirSync('dist/assets').filter((one) => one.endsWith('.css')))
      expect(readFileSync(`dist/assets/${name}`, 'utf8')).not.toMatch(/url\(["']?(https?:)?\/\//);
  });
});
