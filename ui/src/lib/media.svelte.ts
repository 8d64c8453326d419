import { prefs } from './prefs.svelte';

/** Facts about the window, followed live. */
class Media {
  #prefersDark = $state(false);
  narrow = $state(false);

  constructor() {
    this.#follow('(prefers-color-scheme: dark)', (on) => (this.#prefersDark = on));
    this.#follow('(max-width: 719px)', (on) => (this.narrow = on));
  }

  get dark(): boolean {
    return prefs.theme === 'system' ? this.#prefersDark : prefs.theme === 'dark';
  }

  #follow(query: string, set: (on: boolean) => void): void {
    if (typeof window.matchMedia !== 'function') return;
    const list = window.matchMedia(query);
    set(list.matches);
    list.addEventListener('change', (event) => set(event.matches));
  }
}

export const media = new Media();
