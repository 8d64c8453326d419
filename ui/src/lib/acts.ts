import { control } from './api';
import type { Build, BuildRequest, Scheduler, Worker } from './model';
import { to } from './router.svelte';
import { store } from './store.svelte';
import { toasts } from './toasts.svelte';

/** Runs an act; a failure is told in a toast. True when it worked. */
async function act(what: string, run: () => Promise<unknown>): Promise<boolean> {
  try {
    await run();
    return true;
  } catch (error) {
    toasts.failed(what, error);
    return false;
  }
}

export function stopBuild(build: Build, reason: string): Promise<boolean> {
  return act(`Could not stop #${build.number}`, () => control(`builds/${build.buildid}`, 'stop', { reason }));
}

export async function rebuild(build: Build): Promise<void> {
  const name = store.builderName(build.builderid);
  await act(`Could not rebuild ${name} #${build.number}`, async () => {
    const [, requests] = await control<[number, Record<string, number>]>(`builds/${build.buildid}`, 'rebuild');
    const id = Object.values(requests)[0];
    const link = id === undefined ? undefined : { href: to.request(id), text: 'Watch it' };
    toasts.done(`Asked for ${name} #${build.number} again.`, link);
  });
}

export function cancelRequest(request: BuildRequest): Promise<boolean> {
  return act('Could not cancel the request', () =>
    control(`buildrequests/${request.buildrequestid}`, 'cancel', { reason: 'cancelled on the page' }),
  );
}

export function setWorkerPaused(worker: Worker, paused: boolean, reason: string): Promise<boolean> {
  return act(`Could not ${paused ? 'pause' : 'resume'} ${worker.name}`, () =>
    control(`workers/${worker.workerid}`, paused ? 'pause' : 'unpause', { reason }),
  );
}

export function enableScheduler(scheduler: Scheduler, enabled: boolean): Promise<boolean> {
  return act(`Could not switch ${scheduler.name}`, () =>
    control(`schedulers/${scheduler.schedulerid}`, 'enable', { enabled }),
  );
}
