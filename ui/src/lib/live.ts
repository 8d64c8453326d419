import { ApiError } from './api';
import { backoffMs, type Feed } from './feed';

export interface LiveOptions {
  /** Reads the snapshot into the tables; gives the clock that the updates start at. */
  load: () => Promise<string>;
  /** Topic patterns of the updates; asked for after each `load`. */
  paths: () => string[];
  onEvent: (key: string, message: unknown) => void;
  /** The snapshot could not be read (null: it could). What may pass is tried again. */
  onError?: (error: ApiError | null) => void;
}

/**
 * Keeps tables equal to the server: a snapshot, then the updates since its clock; a new snapshot
 * when the clock got too old. The function that comes back ends it.
 */
export function live(feed: Feed, options: LiveOptions): () => void {
  let closed = false;
  let unsubscribe = () => {};
  let timer: ReturnType<typeof setTimeout> | undefined;
  let attempt = 0;

  async function start(): Promise<void> {
    let since: string;
    try {
      since = await options.load();
    } catch (error) {
      if (!closed) failed(error);
      return;
    }
    if (closed) return;
    attempt = 0;
    options.onError?.(null);
    unsubscribe = feed.subscribe({
      paths: options.paths(),
      since,
      onEvent: options.onEvent,
      onGone: () => void start(),
    });
  }

  function failed(error: unknown): void {
    const reason = error instanceof ApiError ? error : new ApiError(String(error), 0);
    options.onError?.(reason);
    const mayPass = reason.status === 0 || reason.status >= 500 || reason.status === 429;
    if (!mayPass) return;
    timer = setTimeout(() => void start(), backoffMs(attempt, Math.random));
    attempt += 1;
  }

  void start();
  return () => {
    closed = true;
    clearTimeout(timer);
    unsubscribe();
  };
}
