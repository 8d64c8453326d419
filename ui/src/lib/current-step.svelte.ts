import { get } from './api';
import { live } from './live';
import { stepOutcome, type Step } from './model';
import { store } from './store.svelte';

/** The step that a build is at, kept live until closed. */
export class CurrentStep {
  #steps = new Map<number, Step>();
  /** Name of the step that runs; empty when none does. */
  name = $state('');
  #close: () => void;

  constructor(buildid: number) {
    this.#close = live(store.feed, {
      load: async () => {
        const reply = await get<Step>(`builds/${buildid}/steps`);
        this.#steps.clear();
        for (const step of reply.items) this.#steps.set(step.number, step);
        this.#tell();
        return reply.clock;
      },
      paths: () => [`builds/${buildid}/steps/*/*`],
      onEvent: (_key, message) => {
        const step = message as Step;
        this.#steps.set(step.number, step);
        this.#tell();
      },
    });
  }

  close(): void {
    this.#close();
  }

  #tell(): void {
    const running = [...this.#steps.values()].filter((step) => !step.hidden && stepOutcome(step) === 'running');
    this.name = running.sort((a, b) => b.number - a.number)[0]?.name ?? '';
  }
}
