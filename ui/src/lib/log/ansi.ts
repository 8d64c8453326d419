import Anser from 'anser';

/** Colour of a piece: an index into the 16 of the theme, or red, green, blue. */
export type Color = number | readonly [number, number, number];

/** A run of text with one look. */
export interface Piece {
  text: string;
  fg: Color | null;
  bg: Color | null;
  /** Subset of: bold dim italic underline strikethrough reverse hidden control. */
  styles: string[];
  /** Target of an OSC 8 link; only http and https. */
  href: string | null;
}

const NAMES = ['black', 'red', 'green', 'yellow', 'blue', 'magenta', 'cyan', 'white'];
const ESC = '\u001b';
// The control characters are the point here.
/* eslint-disable no-control-regex */
const OSC = /\u001b\](\d*);?([^\u0007\u001b]*)(?:\u0007|\u001b\\)/g;
const OTHER_CSI = /\u001b\[[0-?]*[ -/]*[@-ln-~]/g;
const SGR = /\u001b\[([\d;]*)m/g;
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f]/;
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f]+|[^\u0000-\u0008\u000b-\u001f\u007f]+/g;
/* eslint-enable no-control-regex */

/** What a terminal would show of a line with carriage returns: the last overwrite. */
export function lastOverwrite(line: string): string {
  const text = line.replace(/\r+$/, '');
  const at = text.lastIndexOf('\r');
  if (at === -1) return text;
  // The colours set before stay in force.
  const before = text.slice(0, at).match(SGR);
  return (before === null ? '' : before.join('')) + text.slice(at + 1);
}

/** The SGR codes in force after `line`, as one list of parameters; `state` is the list before it. */
export function sgrAfter(state: string, line: string): string {
  if (!line.includes(`${ESC}[`)) return state;
  let codes = state === '' ? [] : state.split(' ');
  for (const match of line.matchAll(SGR)) codes = withCodes(codes, (match[1] ?? '').split(';'));
  return codes.join(' ');
}

/** Adds codes to a list that holds at most one foreground, one background and each style once. */
function withCodes(before: string[], added: string[]): string[] {
  let codes = before;
  for (let i = 0; i < added.length; i += 1) {
    const n = Number(added[i] ?? '0');
    if (n === 0) {
      codes = [];
      continue;
    }
    let code = String(n);
    if (n === 38 || n === 48) {
      const length = added[i + 1] === '2' ? 5 : 3;
      code = added.slice(i, i + length).join(';');
      i += length - 1;
    }
    const slot = slotOf(code);
    codes = codes.filter((other) => slotOf(other) !== slot);
    if (!isReset(n)) codes = [...codes, code];
  }
  return codes;
}

function isReset(n: number): boolean {
  return (n >= 21 && n <= 29) || n === 39 || n === 49;
}

function slotOf(code: string): string {
  const n = Number(code.split(';')[0]);
  if ((n >= 30 && n <= 39) || (n >= 90 && n <= 97)) return 'fg';
  if ((n >= 40 && n <= 49) || (n >= 100 && n <= 107)) return 'bg';
  if (n === 21 || n === 22 || n === 1 || n === 2) return 'weight';
  return String(n % 20);
}

/** Cuts a line into pieces. Its texts are for text nodes: nothing here is HTML. */
export function parseLine(line: string, state = ''): Piece[] {
  const shown = lastOverwrite(line).replace(OTHER_CSI, '');
  const anser = new Anser();
  const pieces: Piece[] = [];
  const codes = state === '' ? '' : `${ESC}[${state.replaceAll(' ', ';')}m`;
  let href: string | null = null;
  let last = 0;
  let first = true;
  const take = (text: string) => {
    colored(anser, first ? codes + text : text, href, pieces);
    first = false;
  };
  for (const match of shown.matchAll(OSC)) {
    take(shown.slice(last, match.index));
    last = match.index + match[0].length;
    if (match[1] === '8') href = linkTarget(match[2] ?? '');
  }
  take(shown.slice(last));
  return pieces;
}

function linkTarget(params: string): string | null {
  const url = params.slice(params.indexOf(';') + 1);
  return /^https?:\/\//.test(url) ? url : null;
}

function colored(anser: Anser, text: string, href: string | null, into: Piece[]): void {
  const [plain, ...chunks] = text.split(`${ESC}[`);
  // Before its first sequence the text keeps what the parser holds from the piece before.
  const parts = [`m${plain ?? ''}`, ...chunks];
  for (const [index, chunk] of parts.entries()) {
    const kept = index === 0;
    const parsed = kept ? held(anser, plain ?? '') : anser.processChunkJson(chunk, { use_classes: true }, true);
    if (parsed.content === '') continue;
    const look = {
      fg: color(parsed.fg, parsed.fg_truecolor),
      bg: color(parsed.bg, parsed.bg_truecolor),
      href,
    };
    // The parser goes on writing to its own list: take a copy now.
    split(parsed.content, { ...look, styles: [...new Set<string>(parsed.decorations)] }, into);
  }
}

/** The state that the parser holds, applied to text without a sequence of its own. */
function held(anser: Anser, content: string) {
  const state = anser as unknown as {
    fg: string | null;
    bg: string | null;
    fg_truecolor: string | null;
    bg_truecolor: string | null;
    decorations?: string[];
  };
  return {
    content,
    fg: state.fg,
    bg: state.bg,
    fg_truecolor: state.fg_truecolor,
    bg_truecolor: state.bg_truecolor,
    decorations: state.decorations ?? [],
  };
}

/** Sets control characters apart and makes them visible: `^[`, `^G`. */
function split(text: string, look: Omit<Piece, 'text'>, into: Piece[]): void {
  if (!CONTROL.test(text)) {
    into.push({ text, ...look });
    return;
  }
  for (const run of text.match(CONTROLS) ?? []) {
    if (CONTROL.test(run)) into.push({ text: visible(run), ...look, styles: [...look.styles, 'control'] });
    else into.push({ text: run, ...look });
  }
}

function visible(controls: string): string {
  return [...controls]
    .map((char) => `^${char === '\u007f' ? '?' : String.fromCharCode(0x40 + char.charCodeAt(0))}`)
    .join('');
}

function color(name: string | null, truecolor: string | null): Color | null {
  if (name === null || name === undefined) return null;
  if (name === 'ansi-truecolor') {
    const [r = 0, g = 0, b = 0] = (truecolor ?? '').split(',').map(Number);
    return [r, g, b];
  }
  const palette = /^ansi-palette-(\d+)$/.exec(name);
  if (palette !== null) return paletteColor(Number(palette[1]));
  const bright = name.startsWith('ansi-bright-');
  const index = NAMES.indexOf(name.replace(bright ? 'ansi-bright-' : 'ansi-', ''));
  return index === -1 ? null : index + (bright ? 8 : 0);
}

/** Colours 16 to 255: a cube of 6 × 6 × 6, then 24 greys. */
function paletteColor(index: number): Color {
  if (index < 16) return index;
  if (index >= 232) {
    const grey = 8 + (index - 232) * 10;
    return [grey, grey, grey];
  }
  const level = (n: number) => (n === 0 ? 0 : 55 + n * 40);
  const n = index - 16;
  return [level(Math.floor(n / 36)), level(Math.floor(n / 6) % 6), level(n % 6)];
}
