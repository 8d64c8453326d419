import type { Component } from 'svelte';
import { matchPath } from './lib/router.svelte';
import Now from './pages/Now.svelte';

type Loader = () => Promise<{ default: Component<never> }>;

interface Page {
  /** What the rail marks as current. */
  section: 'now' | 'builders' | 'console' | 'queue' | 'workers' | 'actors' | 'notifiers' | 'configuration' | 'settings' | '';
  load: Loader;
}

const now: Loader = () => Promise.resolve({ default: Now as unknown as Component<never> });
const page = (load: () => Promise<{ default: unknown }>): Loader => load as Loader;

/** Path patterns; the first that fits counts. All pages but Now are chunks of their own. */
const PAGES: [string, Page][] = [
  ['/', { section: 'now', load: now }],
  ['/builders', { section: 'builders', load: page(() => import('./pages/Builders.svelte')) }],
  ['/builders/{builder}', { section: 'builders', load: page(() => import('./pages/BuilderPage.svelte')) }],
  ['/builders/{builder}/builds/{number}', { section: 'builders', load: page(() => import('./pages/BuildPage.svelte')) }],
  [
    '/builders/{builder}/builds/{number}/steps/{step}/logs/{slug}',
    { section: 'builders', load: page(() => import('./pages/LogPage.svelte')) },
  ],
  ['/console', { section: 'console', load: page(() => import('./pages/Console.svelte')) }],
  ['/queue', { section: 'queue', load: page(() => import('./pages/Queue.svelte')) }],
  ['/requests/{request}', { section: 'queue', load: page(() => import('./pages/RequestPage.svelte')) }],
  ['/force/{scheduler}', { section: 'queue', load: page(() => import('./pages/Force.svelte')) }],
  ['/workers', { section: 'workers', load: page(() => import('./pages/Workers.svelte')) }],
  ['/workers/{worker}', { section: 'workers', load: page(() => import('./pages/WorkerPage.svelte')) }],
  ['/actors', { section: 'actors', load: page(() => import('./pages/Actors.svelte')) }],
  ['/masters/{master}/actors', { section: 'actors', load: page(() => import('./pages/Actors.svelte')) }],
  ['/notifiers', { section: 'notifiers', load: page(() => import('./pages/Notifiers.svelte')) }],
  ['/notifiers/{notifier}', { section: 'notifiers', load: page(() => import('./pages/NotifierPage.svelte')) }],
  ['/configuration', { section: 'configuration', load: page(() => import('./pages/Configuration.svelte')) }],
  ['/masters/{master}/configuration', { section: 'configuration', load: page(() => import('./pages/Configuration.svelte')) }],
  ['/settings', { section: 'settings', load: page(() => import('./pages/Settings.svelte')) }],
];

const NOT_FOUND: Page = { section: '', load: page(() => import('./pages/NotFound.svelte')) };

export interface Matched {
  page: Page;
  params: Record<string, string>;
}

export function route(path: string): Matched {
  for (const [pattern, found] of PAGES) {
    const params = matchPath(pattern, path);
    if (params !== null) return { page: found, params };
  }
  return { page: NOT_FOUND, params: {} };
}

/** Fetches the chunks of the other pages while the browser has nothing else to do. */
export function prefetch(): void {
  const idle = window.requestIdleCallback ?? ((act: () => void) => setTimeout(act, 1500));
  idle(() => {
    for (const [, { load }] of PAGES) void load().catch(() => {});
    void import('./components/Palette.svelte').catch(() => {});
    void import('./components/ForceDialog.svelte').catch(() => {});
  });
}
