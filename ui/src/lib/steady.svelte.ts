/** A pointer that rests for longer is not about to click: the list moves on. */
const REST_MS = 30_000;

/**
 * A list that does not move under a pointer or the focus.
 *
 * While held it keeps the rows that it showed and their order; `waiting` counts what a release
 * would bring or take away.
 */
export class Steady {
  #held = $state(false);
  #shown = $state.raw<readonly number[]>([]);
  #source: () => readonly number[];

  constructor(source: () => readonly number[]) {
    this.#source = source;
  }

  get ids(): readonly number[] {
    return this.#held ? this.#shown : this.#source();
  }

  /** How many rows are new or gone since the list is held; also 1 if only the order differs. */
  get waiting(): number {
    if (!this.#held) return 0;
    const next = this.#source();
    const [now, then] = [new Set(next), new Set(this.#shown)];
    const differing = next.filter((id) => !then.has(id)).length + this.#shown.filter((id) => !now.has(id)).length;
    if (differing > 0) return differing;
    return next.every((id, index) => this.#shown[index] === id) ? 0 : 1;
  }

  hold = (): void => {
    if (this.#held) return;
    this.#shown = this.#source();
    this.#held = true;
  };

  release = (): void => {
    this.#held = false;
  };

  /** Shows what waits, and holds that. */
  refresh = (): void => {
    this.#shown = this.#source();
  };

  /** For an element: holds while the pointer or the focus is inside. */
  attach = (node: HTMLElement): (() => void) => {
    let pointer = false;
    let focus = false;
    let rest: ReturnType<typeof setTimeout> | undefined;
    const update = () => (pointer || focus ? this.hold() : this.release());
    const on = (name: string, act: (event: Event) => void) => {
      node.addEventListener(name, act);
      return () => node.removeEventListener(name, act);
    };
    const leave = () => {
      pointer = false;
      update();
    };
    const off = [
      // A touch leaves no pointer behind: only a mouse holds by hovering.
      on('pointermove', (event) => {
        pointer = (event as PointerEvent).pointerType === 'mouse';
        update();
        clearTimeout(rest);
        rest = setTimeout(leave, REST_MS);
      }),
      on('pointerleave', leave),
      on('focusin', (event) => {
        focus = (event.target as HTMLElement).matches(':focus-visible');
        update();
      }),
      on('focusout', (event) => {
        focus = node.contains((event as FocusEvent).relatedTarget as Node | null) && focus;
        update();
      }),
    ];
    return () => {
      clearTimeout(rest);
      off.forEach((stop) => stop());
    };
  };
}
