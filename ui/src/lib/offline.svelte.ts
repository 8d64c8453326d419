import type { FeedState, FeedStatus } from './feed';

/** A break shorter than this is not shown at all. */
const MARK_AFTER_MS = 1000;
/** The banner must stand before 3 s are over; shorter breaks do without it. */
const BANNER_AFTER_MS = 2600;
const TICK_MS = 100;

/** How a break is shown: late enough not to flicker, early enough not to deceive. */
class SlowState {
  #now = $state(Date.now());
  #timer: ReturnType<typeof setInterval> | undefined;

  /** The state for the live mark: a break counts after a second. */
  mark(status: FeedStatus): FeedState {
    const lost = this.lostForMs(status);
    if (lost === null) return status.state;
    if (lost < MARK_AFTER_MS) return 'live';
    return status.state === 'offline' ? 'offline' : 'catching-up';
  }

  /** Whether the banner is due. */
  banner(status: FeedStatus): boolean {
    return (this.lostForMs(status) ?? 0) >= BANNER_AFTER_MS;
  }

  /** Whole seconds until the next attempt; 0 while one runs. */
  retryInS(status: FeedStatus): number {
    return status.retryAt === null ? 0 : Math.max(0, Math.ceil((status.retryAt - this.#now) / 1000));
  }

  lostForMs(status: FeedStatus): number | null {
    return status.lostAt === null ? null : Math.max(0, this.#now - status.lostAt);
  }

  /** Runs the clock only during a break. */
  follow(status: FeedStatus): void {
    clearInterval(this.#timer);
    if (status.lostAt === null) return;
    this.#now = Date.now();
    this.#timer = setInterval(() => (this.#now = Date.now()), TICK_MS);
  }
}

export const slowState = new SlowState();
