/**
 * Entities by id, and a paint at most once per frame.
 *
 * Updates enter a table at once; whoever reads it is told once per animation frame. A hidden tab
 * gets no frames, so it draws nothing and still loses nothing.
 */

const dirty = new Set<{ flush(): void }>();
let scheduled = false;

function flushAll(): void {
  scheduled = false;
  const due = [...dirty];
  dirty.clear();
  for (const table of due) table.flush();
}

function schedule(table: { flush(): void }): void {
  dirty.add(table);
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(flushAll);
}

/** Paints what waits, at once; for tests. */
export function flushPaint(): void {
  flushAll();
}

/** A reactive table: reading it in a derived value or a template follows its changes. */
export class Table<T> {
  #entities = new Map<number, T>();
  #version = $state(0);
  #loaded = $state(false);

  /** Whether a snapshot has been read. */
  get loaded(): boolean {
    return this.#loaded;
  }

  get size(): number {
    void this.#version;
    return this.#entities.size;
  }

  get(id: number): T | undefined {
    void this.#version;
    return this.#entities.get(id);
  }

  /** All entities, in the order in which they came. */
  values(): T[] {
    void this.#version;
    return [...this.#entities.values()];
  }

  /** Reads without following. */
  peek(id: number): T | undefined {
    return this.#entities.get(id);
  }

  /** The ids, without following. */
  peekIds(): number[] {
    return [...this.#entities.keys()];
  }

  put(id: number, entity: T): void {
    this.#entities.set(id, entity);
    schedule(this);
  }

  delete(id: number): void {
    if (this.#entities.delete(id)) schedule(this);
  }

  /** Takes a snapshot: what it does not hold is gone. */
  replaceAll(entities: Iterable<readonly [number, T]>): void {
    this.#entities = new Map(entities);
    this.#loaded = true;
    this.#version += 1;
  }

  /** Has its readers look again, although no entity changed. */
  touch(): void {
    schedule(this);
  }

  flush(): void {
    this.#version += 1;
  }
}
