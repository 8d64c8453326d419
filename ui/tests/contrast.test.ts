import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { contrast, fromHex, legible, luminance, type Rgb } from '../src/lib/contrast';

const css = readFileSync('src/styles/tokens.css', 'utf8');

/** The colours of the block that begins at `selector`. */
function block(selector: string): Map<string, string> {
  const start = css.indexOf(selector);
  if (start === -1) throw new Error(`no block ${selector}`);
  const body = css.slice(css.indexOf('{', start), css.indexOf('}', start));
  return new Map([...body.matchAll(/--([\w-]+):\s*(#[0-9a-f]{6});/g)].map((match) => [match[1] ?? '', match[2] ?? '']));
}

const themes = {
  light: block(':root {'),
  dark: block(":root[data-theme='dark']"),
};
const systemDark = block(":root:not([data-theme='light'])");

type Theme = keyof typeof themes;

function ratio(theme: Theme, a: string, b: string): number {
  const color = (name: string): Rgb => {
    const hex = themes[theme].get(name);
    if (hex === undefined) throw new Error(`${theme} has no --${name}`);
    return fromHex(hex);
  };
  return contrast(color(a), color(b));
}

const RESULTS = ['success', 'warnings', 'failure', 'exception', 'retry', 'running', 'cancelled', 'skipped', 'pending'];
const GROUNDS = ['ground', 'surface', 'raised', 'selected'];

describe.each(['light', 'dark'] as const)('%s', (theme) => {
  test('results stand out as icons, and ink on them as text', () => {
    for (const result of RESULTS) {
      for (const ground of GROUNDS) expect(ratio(theme, result, ground), `${result} on ${ground}`).toBeGreaterThanOrEqual(3);
      expect(ratio(theme, 'ink', result), `ink on ${result}`).toBeGreaterThanOrEqual(4.5);
      expect(ratio(theme, result, 'ground'), `${result} as text`).toBeGreaterThanOrEqual(4.5);
    }
  });

  test('text, muted text and links are legible on every ground', () => {
    for (const ground of GROUNDS) {
      expect(ratio(theme, 'text', ground), `text on ${ground}`).toBeGreaterThanOrEqual(12.4);
      expect(ratio(theme, 'muted', ground), `muted on ${ground}`).toBeGreaterThanOrEqual(5.7);
      expect(ratio(theme, 'link', ground), `link on ${ground}`).toBeGreaterThanOrEqual(5.4);
      expect(ratio(theme, 'border', ground), `border on ${ground}`).toBeGreaterThanOrEqual(3);
    }
    expect(ratio(theme, 'ground', 'link')).toBeGreaterThanOrEqual(4.5);
  });

  test('banners and hits are legible', () => {
    expect(ratio(theme, 'hit-text', 'hit')).toBeGreaterThanOrEqual(9.4);
    expect(ratio(theme, 'warn-text', 'warn')).toBeGreaterThanOrEqual(9.4);
    expect(ratio(theme, 'error-text', 'error')).toBeGreaterThanOrEqual(9.4);
  });

  test('the 16 colours of logs are legible, on selected lines too', () => {
    // The specification rounds to two places.
    const [plain, selected] = theme === 'light' ? [5.585, 4.905] : [6.445, 5.055];
    for (let index = 0; index < 16; index += 1) {
      expect(ratio(theme, `ansi-${index}`, 'log'), `ansi ${index}`).toBeGreaterThanOrEqual(plain);
      expect(ratio(theme, `ansi-${index}`, 'selected'), `ansi ${index} selected`).toBeGreaterThanOrEqual(selected);
    }
  });

  test('any other colour of a log is made legible', () => {
    const ground = fromHex(themes[theme].get('log') ?? '');
    for (const color of [[0, 0, 0], [255, 255, 255], [250, 240, 120], [10, 20, 60], [128, 128, 128], [255, 0, 0]] as const) {
      expect(contrast(legible(color, ground), ground), color.join()).toBeGreaterThanOrEqual(4.5);
    }
  });
});

test('the ratios of the specification are those of the colours', () => {
  const stated: [Theme, string, string, number][] = [
    ['light', 'success', 'ground', 4.64],
    ['light', 'success', 'raised', 4.0],
    ['light', 'exception', 'raised', 4.03],
    ['light', 'running', 'ground', 10.4],
    ['dark', 'failure', 'ground', 5.92],
    ['dark', 'failure', 'raised', 4.81],
    ['dark', 'cancelled', 'raised', 5.22],
  ];
  for (const [theme, a, b, want] of stated) expect(ratio(theme, a, b), `${theme} ${a} on ${b}`).toBeCloseTo(want, 1);
});

test('dark by the system is dark by choice', () => {
  expect([...systemDark].sort()).toEqual([...themes.dark].sort());
  expect([...themes.light.keys()].sort()).toEqual([...themes.dark.keys()].sort());
});

test('a legible colour is left alone', () => {
  expect(legible([0, 0, 0], [255, 255, 255])).toEqual([0, 0, 0]);
  expect(luminance([255, 255, 255])).toBeCloseTo(1, 5);
});
