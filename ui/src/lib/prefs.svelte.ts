/** What the user chose, kept in the browser. */

export type Theme = 'system' | 'light' | 'dark';
export type Density = 'normal' | 'compact';

const PREFIX = 'greenroom.';

function read(name: string): string | null {
  try {
    return localStorage.getItem(PREFIX + name);
  } catch {
    return null;
  }
}

function write(name: string, value: string): void {
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    // Storage is full or forbidden: the choice lasts as long as the page.
  }
}

class Prefs {
  theme = $state<Theme>('system');
  density = $state<Density>('normal');
  /** Single-key shortcuts. */
  keys = $state(true);
  /** Times: `relative` ("3 min ago") or `absolute`. */
  times = $state<'relative' | 'absolute'>('relative');

  load(): void {
    const theme = read('theme');
    this.theme = theme === 'light' || theme === 'dark' ? theme : 'system';
    this.density = read('density') === 'compact' ? 'compact' : 'normal';
    this.keys = read('keys') !== 'off';
    this.times = read('times') === 'absolute' ? 'absolute' : 'relative';
    this.#apply();
  }

  setTheme(theme: Theme): void {
    this.theme = theme;
    write('theme', theme);
    this.#apply();
  }

  setDensity(density: Density): void {
    this.density = density;
    write('density', density);
    this.#apply();
  }

  setKeys(on: boolean): void {
    this.keys = on;
    write('keys', on ? 'on' : 'off');
  }

  setTimes(times: 'relative' | 'absolute'): void {
    this.times = times;
    write('times', times);
  }

  /** System, light, dark, and round again. */
  nextTheme(): Theme {
    const dark = this.theme === 'dark' || (this.theme === 'system' && matchMedia('(prefers-color-scheme: dark)').matches);
    this.setTheme(dark ? 'light' : 'dark');
    return this.theme;
  }

  #apply(): void {
    const root = document.documentElement;
    if (this.theme === 'system') delete root.dataset.theme;
    else root.dataset.theme = this.theme;
    root.dataset.density = this.density;
  }
}

export const prefs = new Prefs();
