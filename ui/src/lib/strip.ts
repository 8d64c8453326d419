import { buildOutcome, type Build, type Outcome } from './model';

/** Bars of a strip, and pixels from bar to bar. */
export const SLOTS = 20;
export const PITCH = 7;
const WIDTH = 6;
const BASE = 19;
const LOWEST = 4;
const HIGHEST = 17;

/** What is drawn in the colour of one result: filled parts, outlines, and notches in the ground's colour. */
export interface StripPart {
  outcome: Outcome;
  fill: string;
  outline: string;
  notch: string;
}

function box(x: number, y: number, width: number, height: number): string {
  return `M${x} ${y}h${width}v${height}h${-width}z`;
}

/**
 * One path for each result instead of several elements for each bar: a page of strips stays small.
 * Bars: success solid, warnings notched, failure one tick below, exception and retry two, cancelled and skipped hollow.
 * @param heightOf height of a bar from 0 to 1
 */
export function stripParts(builds: readonly Build[], heightOf: (build: Build) => number): StripPart[] {
  const parts = new Map<Outcome, StripPart>();
  const first = SLOTS - builds.length;
  for (const [index, build] of builds.entries()) {
    const outcome = buildOutcome(build);
    const part = parts.get(outcome) ?? { outcome, fill: '', outline: '', notch: '' };
    parts.set(outcome, part);
    const x = (first + index) * PITCH;
    const height = Math.round(LOWEST + (HIGHEST - LOWEST) * Math.min(1, Math.max(0, heightOf(build))));
    const top = BASE - height;
    if (outcome === 'cancelled' || outcome === 'skipped') part.outline += box(x + 0.75, top + 0.5, 4.5, height - 1);
    else part.fill += box(x, top, WIDTH, height);
    if (outcome === 'warnings') part.notch += box(x + 2, top, 2, 3);
    else if (outcome === 'failure') part.fill += box(x, BASE + 1.5, WIDTH, 2.5);
    else if (outcome === 'exception' || outcome === 'retry')
      part.fill += box(x, BASE + 1.5, 2.5, 2.5) + box(x + 3.5, BASE + 1.5, 2.5, 2.5);
  }
  return [...parts.values()];
}

/** The build under a point of the strip, or undefined. */
export function buildAt(builds: readonly Build[], x: number): Build | undefined {
  return builds[Math.floor(x / PITCH) - (SLOTS - builds.length)];
}
