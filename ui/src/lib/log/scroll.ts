/** Arithmetic of a list of equal rows that may be longer than a browser's largest element. */

export const ROW_PX = 18;
/** Above this the scrollbar maps by ratio: browsers cap elements at some ten million pixels. */
export const MAX_PX = 8_000_000;

export interface Extent {
  lines: number;
  /** Height of the visible box in pixels. */
  viewPx: number;
}

export function isScaled(extent: Extent): boolean {
  return extent.lines * ROW_PX > MAX_PX;
}

/** Height of the element that is scrolled. */
export function totalPx(extent: Extent): number {
  return Math.min(MAX_PX, extent.lines * ROW_PX);
}

/** The last line that can be at the top; with a fraction. */
export function lastTop(extent: Extent): number {
  return Math.max(0, extent.lines - extent.viewPx / ROW_PX);
}

/** The line at the top of the box when the scrollbar stands at `scrollPx`. */
export function topLine(extent: Extent, scrollPx: number): number {
  if (!isScaled(extent)) return scrollPx / ROW_PX;
  const range = MAX_PX - extent.viewPx;
  return (Math.min(range, Math.max(0, scrollPx)) / range) * lastTop(extent);
}

/** Where the scrollbar stands when `line` is at the top. */
export function scrollFor(extent: Extent, line: number): number {
  const top = Math.min(lastTop(extent), Math.max(0, line));
  if (!isScaled(extent)) return top * ROW_PX;
  const last = lastTop(extent);
  return last === 0 ? 0 : (top / last) * (MAX_PX - extent.viewPx);
}

/** The lines to draw: the visible ones and `spare` on both sides; `to` is not included. */
export function visible(extent: Extent, top: number, spare: number): { from: number; to: number } {
  const from = Math.max(0, Math.floor(top) - spare);
  const to = Math.min(extent.lines, Math.ceil(top + extent.viewPx / ROW_PX) + spare);
  return { from, to: Math.max(from, to) };
}

/** Line range of a fragment: `#L10` or `#L10-20`, from 1, in order; null for others. */
export function parseRange(hash: string): { from: number; to: number } | null {
  const match = /^#L(\d+)(?:-(\d+))?$/.exec(hash);
  if (match === null) return null;
  const a = Number(match[1]);
  const b = Number(match[2] ?? match[1]);
  return { from: Math.min(a, b), to: Math.max(a, b) };
}
