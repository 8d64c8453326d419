import { describe, expect, test, vi } from 'vitest';
import { lastOverwrite, parseLine, sgrAfter } from '../src/lib/log/ansi';
import { KEPT_WINDOWS, LogLines, WINDOW } from '../src/lib/log/lines.svelte';
import { isScaled, lastTop, MAX_PX, parseRange, ROW_PX, scrollFor, topLine, totalPx, visible } from '../src/lib/log/scroll';

const E = '\u001b[';
const texts = (line: string, state = '') => parseLine(line, state).map((piece) => piece.text);

describe('colours', () => {
  test('the 16, 256 and true colours', () => {
    const pieces = parseLine(`a${E}31mb${E}92mc${E}38;5;208md${E}38;2;1;2;3me${E}0mf`);
    expect(pieces.map((piece) => [piece.text, piece.fg])).toEqual([
      ['a', null],
      ['b', 1],
      ['c', 10],
      ['d', [255, 135, 0]],
      ['e', [1, 2, 3]],
      ['f', null],
    ]);
  });

  test('styles belong to their own piece', () => {
    const pieces = parseLine(`${E}1mbold${E}3mboth${E}22mitalic${E}0;4munder`);
    expect(pieces.map((piece) => [piece.text, piece.styles])).toEqual([
      ['bold', ['bold']],
      ['both', ['bold', 'italic']],
      ['italic', ['italic']],
      ['under', ['underline']],
    ]);
  });

  test('go on from the line before', () => {
    const state = sgrAfter('', `x${E}1;31my`);
    expect(parseLine(`still${E}0m not`, state).map((piece) => [piece.text, piece.fg, piece.styles])).toEqual([
      ['still', 1, ['bold']],
      [' not', null, []],
    ]);
    expect(sgrAfter(state, 'plain')).toBe(state);
    expect(sgrAfter(state, `${E}m`)).toBe('');
    expect(sgrAfter(state, `${E}39m`)).toBe('1');
  });

  test('the state does not grow with what was said before', () => {
    let state = '';
    for (let i = 0; i < 1000; i += 1) state = sgrAfter(state, `${E}3${i % 8};4${i % 8};1;38;5;${i % 256}m`);
    expect(state.split(' ').length).toBeLessThanOrEqual(3);
  });
});

describe('lines', () => {
  test('show the last overwrite', () => {
    expect(lastOverwrite('10%\r50%\r100%')).toBe('100%');
    expect(lastOverwrite('windows line\r')).toBe('windows line');
    expect(parseLine(`${E}32m10%\r100%`)[0]).toMatchObject({ text: '100%', fg: 2 });
  });

  test('show control characters, and drop what only moves a cursor', () => {
    expect(texts('a\u0007b\u0000')).toEqual(['a', '^G', 'b', '^@']);
    expect(parseLine('a\u0007')[1]?.styles).toEqual(['control']);
    expect(texts(`a${E}2Kb${E}1;1Hc${E}?25l`)).toEqual(['abc']);
    expect(texts('tab\tstays')).toEqual(['tab\tstays']);
    expect(texts('\u001b')).toEqual(['^[']);
  });

  test('link only to http and https', () => {
    const link = (url: string) => parseLine(`\u001b]8;;${url}\u001b\\go\u001b]8;;\u001b\\ on`);
    expect(link('https://example.org/').map((piece) => [piece.text, piece.href])).toEqual([
      ['go', 'https://example.org/'],
      [' on', null],
    ]);
    expect(link('javascript:alert(1)')[0]?.href).toBeNull();
  });

  test('keep markup as text', () => {
    expect(texts('<b>&amp;</b>')).toEqual(['<b>&amp;</b>']);
  });
});

describe('windows', () => {
  function log(total: number) {
    const read = vi.fn((_logid: number, offset: number, limit: number) =>
      Promise.resolve(Array.from({ length: Math.min(limit, total - offset) }, (_, i) => `oline ${offset + i}\n`).join('')),
    );
    return { lines: new LogLines(1, 's', read), read };
  }
  const settled = () => new Promise((resolve) => setTimeout(resolve, 0));

  test('are read once, as they are looked at', async () => {
    const { lines, read } = log(2000);
    lines.ensure(490, 510, 2000);
    lines.ensure(490, 510, 2000);
    expect(lines.line(495)).toBeUndefined();
    await settled();
    expect(read.mock.calls).toEqual([
      [1, 0, WINDOW],
      [1, WINDOW, WINDOW],
    ]);
    expect(lines.line(495)).toEqual({ text: 'line 495', stream: 'o', state: '' });
    lines.ensure(490, 510, 2000);
    expect(read).toHaveBeenCalledTimes(2);
  });

  test('of a growing log read only what is new', async () => {
    const { lines, read } = log(2000);
    lines.ensure(0, 30, 10);
    await settled();
    lines.ensure(0, 30, 25);
    await settled();
    expect(read.mock.calls).toEqual([
      [1, 0, 10],
      [1, 10, 15],
    ]);
    expect(lines.line(24)?.text).toBe('line 24');
  });

  test('are not kept without bound', async () => {
    const total = WINDOW * (KEPT_WINDOWS + 20);
    const { lines } = log(total);
    for (let first = 0; first < total; first += WINDOW) {
      lines.ensure(first, first + 1, total);
      await settled();
    }
    expect(lines.line(0)).toBeUndefined();
    expect(lines.line(total - 1)?.text).toBe(`line ${total - 1}`);
  });

  test('that cannot be read say so, and are asked again', async () => {
    const read = vi.fn().mockRejectedValueOnce(new Error('away')).mockResolvedValueOnce('oline 0\n');
    const lines = new LogLines(1, 's', read);
    lines.ensure(0, 1, 1);
    await settled();
    expect(lines.error?.message).toContain('away');
    lines.ensure(0, 1, 1);
    await settled();
    expect(lines.error).toBeNull();
    expect(lines.line(0)?.text).toBe('line 0');
  });

  test('carry colours from line to line, but not through headers', async () => {
    const read = () => Promise.resolve(`o${E}31mred\nhheader\nostill red\no${E}0mplain\noplain\n`);
    const lines = new LogLines(1, 's', read);
    lines.ensure(0, 5, 5);
    await settled();
    expect([0, 1, 2, 3, 4].map((index) => lines.line(index)?.state)).toEqual(['', '', '31', '31', '']);
    expect(lines.line(1)?.stream).toBe('h');
  });
});

describe('scrolling', () => {
  const short = { lines: 1000, viewPx: 540 };
  const long = { lines: 2_000_000, viewPx: 540 };

  test('of a short log is by pixels', () => {
    expect(isScaled(short)).toBe(false);
    expect(totalPx(short)).toBe(1000 * ROW_PX);
    expect(topLine(short, 180)).toBe(10);
    expect(scrollFor(short, 10)).toBe(180);
  });

  test('of a long log reaches every line', () => {
    expect(isScaled(long)).toBe(true);
    expect(totalPx(long)).toBe(MAX_PX);
    expect(topLine(long, 0)).toBe(0);
    expect(topLine(long, MAX_PX - long.viewPx)).toBeCloseTo(lastTop(long), 6);
    expect(lastTop(long)).toBe(2_000_000 - 30);
    for (const line of [0, 1, 999_999, 1_234_567, 1_999_970]) {
      expect(topLine(long, scrollFor(long, line))).toBeCloseTo(line, 3);
    }
  });

  test('draws what is seen and a little around it', () => {
    expect(visible(long, 1_234_567, 30)).toEqual({ from: 1_234_537, to: 1_234_627 });
    expect(visible({ lines: 5, viewPx: 540 }, 0, 30)).toEqual({ from: 0, to: 5 });
    expect(visible({ lines: 0, viewPx: 540 }, 0, 30)).toEqual({ from: 0, to: 0 });
  });

  test('knows ranges of lines', () => {
    expect(parseRange('#L10')).toEqual({ from: 10, to: 10 });
    expect(parseRange('#L20-10')).toEqual({ from: 10, to: 20 });
    expect(parseRange('#main')).toBeNull();
  });
});
