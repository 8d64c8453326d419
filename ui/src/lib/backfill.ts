/**
 * Fetches something once for each of many ids, a few at a time: what is asked for last comes
 * first, since that is what is looked at now.
 */
export class Backfill {
  #read: (id: number) => Promise<void>;
  #atOnce: number;
  #waiting: number[] = [];
  #asked = new Set<number>();
  #done = new Set<number>();
  #active = 0;
  #generation = 0;

  constructor(read: (id: number) => Promise<void>, atOnce: number) {
    this.#read = read;
    this.#atOnce = atOnce;
  }

  /** Whether the id was read, or its read failed. */
  isDone(id: number): boolean {
    return this.#done.has(id);
  }

  /** Asks for ids, before those that wait already. Those read or being read are left out. */
  ask(ids: readonly number[]): void {
    const wanted = new Set(ids.filter((id) => !this.#asked.has(id) || this.#waiting.includes(id)));
    if (wanted.size === 0) return;
    this.#waiting = [...wanted, ...this.#waiting.filter((id) => !wanted.has(id))];
    for (const id of wanted) this.#asked.add(id);
    this.#next();
  }

  /** Forgets all: after a new snapshot. Reads under way count for nothing. */
  reset(): void {
    this.#generation += 1;
    this.#active = 0;
    this.#waiting = [];
    this.#asked.clear();
    this.#done.clear();
  }

  #next(): void {
    while (this.#active < this.#atOnce) {
      const id = this.#waiting.shift();
      if (id === undefined) return;
      this.#active += 1;
      void this.#run(id, this.#generation);
    }
  }

  async #run(id: number, generation: number): Promise<void> {
    let failed = false;
    try {
      await this.#read(id);
    } catch {
      failed = true;
    }
    if (generation !== this.#generation) return;
    this.#active -= 1;
    this.#done.add(id);
    // What failed may be asked for again, by whoever looks at it next.
    if (failed) this.#asked.delete(id);
    this.#next();
  }
}
