import type { Build, Builder, BuildRequest, Worker } from './model';

export type WaitKind = 'no-worker' | 'paused' | 'busy' | 'next';

/** Why a request waits, as far as the public state tells. */
export interface Why {
  kind: WaitKind;
  /** Short, for grouping: the same for all requests with the same reason. */
  short: string;
  /** A whole sentence. */
  sentence: string;
  /** What would mend it. */
  mend: string;
  /** The workers that are meant, and the builds that run on them. */
  workers: Worker[];
  builds: Build[];
}

function names(workers: Worker[]): string {
  const shown = workers.slice(0, 3).map((worker) => worker.name);
  const more = workers.length - shown.length;
  return shown.join(', ') + (more > 0 ? ` and ${more} more` : '');
}

/** The reason for each builder with waiting requests: it is the same for all of a builder's requests. */
export function whyByBuilder(
  requests: readonly BuildRequest[],
  builders: { get(id: number): Builder | undefined },
  workers: readonly Worker[],
  running: readonly Build[],
): Map<number, Why> {
  const reasons = new Map<number, Why>();
  for (const request of requests) {
    const { builderid } = request;
    if (reasons.has(builderid)) continue;
    reasons.set(builderid, whyWaiting(request, builders.get(builderid), workers, running));
  }
  return reasons;
}

/** The first reason that holds, from what is hardest to mend to what passes by itself. */
export function whyWaiting(
  request: Pick<BuildRequest, 'builderid'>,
  builder: Pick<Builder, 'name'> | undefined,
  workers: readonly Worker[],
  running: readonly Build[],
): Why {
  const able = workers.filter((worker) => worker.configured_on.some((on) => on.builderid === request.builderid));
  const connected = able.filter((worker) => worker.connected_to.length > 0);
  const taking = connected.filter((worker) => !worker.paused && !worker.graceful);
  const ids = new Set(taking.map((worker) => worker.workerid));
  const builds = running.filter((build) => ids.has(build.workerid));
  const name = builder?.name ?? `builder ${request.builderid}`;
  if (connected.length === 0) {
    return {
      kind: 'no-worker',
      short: 'no worker connected',
      sentence:
        able.length === 0
          ? `No worker that may run ${name} has ever connected.`
          : able.length === 1
            ? `Its only worker is not connected: ${names(able)}.`
            : `None of its ${able.length} workers is connected: ${names(able)}.`,
      mend: 'Start a worker, or look at why it left.',
      workers: able,
      builds: [],
    };
  }
  if (taking.length === 0) {
    const reasons = connected.map((worker) => worker.pause_reason).filter((reason) => reason);
    return {
      kind: 'paused',
      short: 'workers paused',
      sentence: `Every connected worker is paused or draining: ${names(connected)}${reasons[0] ? ` (${reasons[0]})` : ''}.`,
      mend: 'Resume a worker.',
      workers: connected,
      builds: [],
    };
  }
  const free = taking.filter((worker) => !builds.some((build) => build.workerid === worker.workerid));
  const own = builds.filter((build) => build.builderid === request.builderid);
  if (taking.every((worker) => own.some((build) => build.workerid === worker.workerid))) {
    return {
      kind: 'busy',
      short: `one at a time on ${names(taking)}`,
      sentence: `A worker runs one build of ${name} at a time, and ${names(taking)} ${taking.length === 1 ? 'does' : 'do'}.`,
      mend: 'Wait for it to end, or let more workers run it.',
      workers: taking,
      builds: own,
    };
  }
  if (free.length === 0) {
    return {
      kind: 'busy',
      short: `${names(taking)} busy`,
      sentence: `Its workers are busy: ${names(taking)} ${builds.length === 1 ? 'runs one build' : `run ${builds.length} builds`}.`,
      mend: 'Wait for one to end, raise max-builds or add a worker.',
      workers: taking,
      builds,
    };
  }
  return {
    kind: 'next',
    short: 'about to start',
    sentence: `${names(free)} is idle: the request starts with the next hand-out, unless a lock or a collapse holds it.`,
    mend: 'Nothing to do.',
    workers: free,
    builds: [],
  };
}
