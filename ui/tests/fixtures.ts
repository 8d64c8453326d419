import type { Build, Builder, BuildRequest, Worker } from '../src/lib/model';

export function build(more: Partial<Build> = {}): Build {
  const number = more.number ?? 1;
  return {
    buildid: number,
    number,
    builderid: 1,
    buildrequestid: number,
    workerid: 1,
    masterid: 1,
    started_at: 1000 + number * 100,
    complete: true,
    complete_at: 1010 + number * 100,
    locks_duration_s: 0,
    results: 0,
    state_string: 'build successful',
    properties: {},
    ...more,
  };
}

export function running(more: Partial<Build> = {}): Build {
  return build({ complete: false, complete_at: null, results: null, ...more });
}

export function builder(more: Partial<Builder> = {}): Builder {
  return { builderid: 1, name: 'linux', description: null, masterids: [1], tags: [], ...more };
}

export function worker(more: Partial<Worker> = {}): Worker {
  return {
    workerid: 1,
    name: 'w1',
    workerinfo: {},
    paused: false,
    pause_reason: null,
    graceful: false,
    connected_to: [{ masterid: 1 }],
    configured_on: [{ masterid: 1, builderid: 1 }],
    ...more,
  };
}

export function request(more: Partial<BuildRequest> = {}): BuildRequest {
  return {
    buildrequestid: 1,
    buildsetid: 1,
    builderid: 1,
    priority: 0,
    claimed: false,
    claimed_at: null,
    complete: false,
    complete_at: null,
    results: -1,
    submitted_at: 1000,
    waited_for: false,
    properties: null,
    ...more,
  };
}
