import type { Outcome, Worker } from './model';

/** State of a worker in a word, with the icon's shape. */
export function workerState(worker: Worker, running: number): { word: string; outcome: Outcome } {
  if (worker.connected_to.length === 0) return { word: 'offline', outcome: 'failure' };
  if (worker.graceful) return { word: 'draining', outcome: 'warnings' };
  if (worker.paused) return { word: 'paused', outcome: 'cancelled' };
  return running > 0 ? { word: `busy, ${running} running`, outcome: 'running' } : { word: 'idle', outcome: 'success' };
}
