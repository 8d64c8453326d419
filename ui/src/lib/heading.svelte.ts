import type { Outcome } from './model';

/** What the page shows: for the title, the favicon and the breadcrumb. */
export interface Heading {
  title: string;
  /** Result of the thing shown; the icon says `idle` without one. */
  outcome?: Outcome;
  running?: boolean;
  crumbs: { text: string; href?: string }[];
}

const icons = import.meta.glob<string>('../favicons/*.svg', { query: '?url', import: 'default', eager: true });
const SIGNS: Partial<Record<Outcome, string>> = {
  success: '✓',
  warnings: '!',
  failure: '✗',
  exception: '⬢',
  running: '◔',
  pending: '◌',
};

class HeadingState {
  crumbs = $state.raw<Heading['crumbs']>([]);

  /** Called by each page in an effect. */
  set(heading: Heading, farm: string): void {
    this.crumbs = heading.crumbs;
    const sign = heading.outcome === undefined ? '' : (SIGNS[heading.outcome] ?? '');
    document.title = [`${sign} ${heading.title}`.trim(), farm].filter((part) => part !== '').join(' · ');
    const name = (heading.outcome ?? 'idle') + (heading.running ? '-dot' : '');
    const href = icons[`../favicons/${name}.svg`] ?? icons['../favicons/idle.svg'];
    const link = document.getElementById('favicon');
    if (href !== undefined && link?.getAttribute('href') !== href) link?.setAttribute('href', href);
  }
}

export const heading = new HeadingState();
