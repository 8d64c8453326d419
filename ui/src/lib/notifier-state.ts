import type { Actor } from './actors';
import type { Delivery, DeliveryState, Notifier, Outcome } from './model';

/** How a notifier is, in a word, with the icon's shape and what explains it. */
export interface NotifierState {
  word: string;
  outcome: Outcome;
  why: string;
}

interface Known {
  /** Its messages: what waits first, then the others from the last one on. */
  deliveries: readonly Delivery[];
  /** Names of masters that run, by id. */
  masters: ReadonlyMap<number, string>;
  /** Its own actor, if this master has told of it. */
  actor?: Actor;
  /** The actor of its connection, if it keeps one. */
  connection?: Actor;
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

/** The worst that is known counts. */
export function notifierState(notifier: Notifier, { deliveries, masters, actor, connection }: Known): NotifierState {
  if (notifier.masterid === null) return { word: 'not configured', outcome: 'skipped', why: 'It is gone from the configuration.' };
  if (!masters.has(notifier.masterid)) return { word: 'nobody runs it', outcome: 'failure', why: `Master ${notifier.masterid} has stopped.` };
  if (actor !== undefined && actor.state !== 'running') {
    return { word: actor.state.replace('-', ' '), outcome: 'failure', why: actor.exits[0]?.message ?? '' };
  }
  if (connection !== undefined && connection.observed.state !== 'ready') {
    const word = text(connection.observed.state) || connection.state;
    return { word: word === 'waiting' ? 'not connected' : word, outcome: 'retry', why: text(connection.observed.last_error) };
  }
  const retried = deliveries.find((one) => one.state === 'waiting' && one.attempts > 0);
  if (retried !== undefined) return { word: 'trying again', outcome: 'retry', why: retried.reason ?? '' };
  const told = deliveries.find((one) => ['sent', 'failed', 'dropped'].includes(one.state));
  if (told !== undefined && told.state !== 'sent') {
    return { word: `last one ${told.state}`, outcome: 'failure', why: told.reason ?? '' };
  }
  if (deliveries.some((one) => one.state === 'waiting')) return { word: 'sending', outcome: 'running', why: '' };
  return { word: connection === undefined ? 'ready' : 'connected', outcome: 'success', why: '' };
}

const SHAPES: Record<DeliveryState, Outcome> = {
  waiting: 'pending',
  sent: 'success',
  failed: 'failure',
  dropped: 'exception',
  silenced: 'skipped',
};

/** The shape of a message's state; one that was tried in vain is a retry. */
export function deliveryOutcome(delivery: Pick<Delivery, 'state' | 'attempts'>): Outcome {
  if (delivery.state === 'waiting' && delivery.attempts > 0) return 'retry';
  return SHAPES[delivery.state] ?? 'pending';
}

/** `2 waiting, 40 sent, 1 failed`: every state that there is, in this order. */
export function tally(deliveries: readonly Delivery[]): [DeliveryState, number][] {
  return (['waiting', 'sent', 'failed', 'dropped', 'silenced'] as const)
    .map((state): [DeliveryState, number] => [state, deliveries.filter((one) => one.state === state).length])
    .filter(([, count]) => count > 0);
}
