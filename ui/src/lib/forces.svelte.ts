import { get } from './api';
import type { ForceScheduler } from './model';

let cached: Promise<ForceScheduler[]> | null = null;

/** The force schedulers. They change only with the configuration, so one read serves for a while. */
export function forceSchedulers(): Promise<ForceScheduler[]> {
  cached ??= get<ForceScheduler>('forceschedulers', { order: 'name' }).then(
    (reply) => reply.items.filter((one) => one.enabled),
    (error: unknown) => {
      cached = null;
      throw error;
    },
  );
  return cached;
}
