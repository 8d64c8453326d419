/** Waiting for what must come true, and looking at what is true at one moment. */

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';

const PROBE_MS = 50;

/**
 * Waits until `probe` gives something truthy, and returns it.
 * @param {string} what what is waited for, named when it does not come
 * @param {number} withinMs
 */
export async function until(what, withinMs, probe) {
  const end = performance.now() + withinMs;
  let last;
  for (;;) {
    try {
      const found = await probe();
      if (found) return found;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (performance.now() > end) throw new Error(`no ${what} within ${withinMs} ms`, { cause: last });
    await pause(PROBE_MS);
  }
}

/** Waits until `read` gives the same on both sides, `actual` and `expected`; else fails with the last difference. */
export async function untilEqual(what, withinMs, read) {
  const end = performance.now() + withinMs;
  for (;;) {
    const { actual, expected } = await read();
    try {
      assert.deepStrictEqual(actual, expected, what);
      return actual;
    } catch (error) {
      if (performance.now() > end) throw error;
    }
    await pause(PROBE_MS);
  }
}
