import { prefs } from './prefs.svelte';

export interface Key {
  key: string;
  does: string;
  act: () => void;
}

const layers: Key[][] = [];

/** Whether typing goes into a field, where shortcuts must not fire. */
export function inField(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.closest('input, textarea, select, [contenteditable]') !== null;
}

/** Adds shortcuts of a page; the function that comes back removes them. */
export function addKeys(keys: Key[]): () => void {
  layers.push(keys);
  return () => {
    const at = layers.indexOf(keys);
    if (at !== -1) layers.splice(at, 1);
  };
}

/** The shortcuts that work now, the page's own first. */
export function currentKeys(): Key[] {
  return [...layers].reverse().flat();
}

let pending = '';
let pendingTimer: ReturnType<typeof setTimeout> | undefined;

/** Handles a key press; two-key ones (`g b`) wait a second for their second key. */
export function pressed(event: KeyboardEvent): void {
  if (!prefs.keys || event.ctrlKey || event.metaKey || event.altKey || inField(event.target)) return;
  if (document.querySelector('dialog[open]') !== null) return;
  const chord = pending === '' ? event.key : `${pending} ${event.key}`;
  pending = '';
  clearTimeout(pendingTimer);
  const found = currentKeys().find((key) => key.key === chord);
  if (found !== undefined) {
    event.preventDefault();
    found.act();
  } else if (event.key === 'g') {
    pending = 'g';
    pendingTimer = setTimeout(() => (pending = ''), 1000);
  }
}

/** Moves the focus to the next or previous row of the page. */
export function moveRow(by: 1 | -1): void {
  const rows = [...document.querySelectorAll<HTMLElement>('main [data-row]')].filter((row) => row.offsetParent !== null);
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const next = rows[at === -1 ? (by === 1 ? 0 : rows.length - 1) : at + by];
  (next?.querySelector<HTMLElement>('a, button') ?? next)?.focus();
}
