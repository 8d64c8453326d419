/** A farm of builders, workers and builds in memory, with an event for each change. */

import { Operations } from './operations.mjs';

const now = () => Math.floor(Date.now() / 1000);
const pick = (list) => list[Math.floor(Math.random() * list.length)];
const E = '\u001b[';

const NAMES = ['linux-amd64', 'linux-arm64', 'clippy', 'docs', 'fuzz', 'package-deb', 'windows-cross', 'macos-m2'];
const TAGS = { 'linux-amd64': ['linux', 'fast'], 'linux-arm64': ['linux', 'arm64'], clippy: ['lint'], fuzz: ['nightly'], 'macos-m2': ['macos'] };
const AUTHORS = ['Ada Byron <ada@example.org>', 'Kim Cole <kim@example.org>', 'Gil Murray <gil@example.org>'];
const COMMENTS = ['Tidy the parser', 'Backport: drain before stop', 'Count retries once', 'Name the lock in the error', 'Speed up the cold start'];
const STEPS = ['worker_preparation', 'git', 'configure', 'compile', 'test', 'lint', 'package'];
/** What becomes of a builder's builds. */
const FATE = { 'linux-arm64': 'failure', clippy: 'warnings', 'package-deb': 'exception' };
const CODE = { success: 0, warnings: 1, failure: 2, skipped: 3, exception: 4, retry: 5, cancelled: 6 };
const KEPT_EVENTS = 5000;

export class Farm {
  listeners = new Set();
  #seq = 1000;
  #events = [];
  #forgotten = 0;
  #ids = {};
  #speed;
  #lines;
  tables = { builders: [], builds: [], buildrequests: [], buildsets: [], steps: [], logs: [], changes: [], workers: [], masters: [], schedulers: [], forceschedulers: [] };
  #texts = new Map();
  #bornAt = now();
  #operations;

  constructor({ builders, speed, lines }) {
    this.#speed = speed;
    this.#lines = lines;
    this.#operations = new Operations({ publish: (keys, entity) => this.#publish(keys, entity), speed });
    Object.assign(this.tables, this.#operations.tables);
    this.#found(builders);
    this.#past();
  }

  get clock() {
    return String(this.#seq);
  }

  forget() {
    this.#forgotten = this.#seq;
    this.#events = [];
  }

  /** Events after a clock, or null if they are no longer known. */
  since(clock) {
    if (clock < this.#forgotten || (this.#events[0]?.seq ?? this.#seq + 1) > clock + 1) {
      if (clock !== this.#seq) return null;
    }
    return this.#events.filter((event) => event.seq > clock);
  }

  config() {
    return {
      title: 'Fake farm',
      titleURL: 'http://127.0.0.1/',
      buildbotURL: 'http://127.0.0.1/',
      user: { anonymous: false, full_name: 'Ada Byron', email: 'ada@example.org' },
      versions: [['Greenroom', '0.0.0-fake']],
      auth: { name: 'NoAuth' },
    };
  }

  live() {
    const turn = () => {
      if (this.tables.buildrequests.filter((request) => !request.claimed).length < 12) this.#change();
      setTimeout(turn, (4000 + Math.random() * 4000) / this.#speed);
    };
    setTimeout(turn, 500);
    setInterval(() => this.#handOut(), 300 / this.#speed);
  }

  // Reading

  find(path) {
    const parts = path.split('/');
    if (path === 'actors') return { kind: 'actors', items: this.#actors() };
    if (path === 'masters/1/reload') return { kind: 'reloads', item: this.#operations.reload() };
    let scope = null;
    for (let i = 0; i < parts.length; i += 2) {
      const kind = parts[i];
      const rows = this.#collection(kind, scope);
      if (rows === undefined) return undefined;
      if (parts[i + 1] === undefined) return { kind, items: rows };
      scope = { kind, item: rows.find((row) => this.#named(kind, row, parts[i + 1], scope)) };
      if (scope.item === undefined) return { kind, item: undefined };
    }
    return scope === null ? undefined : { kind: scope.kind, item: scope.item };
  }

  #named(kind, row, name, scope) {
    if (kind === 'builds' && scope?.kind === 'builders') return String(row.number) === name;
    if (kind === 'steps' && scope?.kind === 'builds') return String(row.number) === name || row.name === name;
    return String(row[idField(kind)]) === name || row.name === name || row.slug === name;
  }

  #collection(kind, scope) {
    const rows = this.tables[kind];
    if (scope === null) return rows;
    const { item } = scope;
    switch (`${scope.kind}/${kind}`) {
      case 'builders/builds':
        return rows.filter((build) => build.builderid === item.builderid);
      case 'builders/workers':
        return rows.filter((worker) => worker.configured_on.some((on) => on.builderid === item.builderid));
      case 'builders/buildrequests':
        return rows.filter((request) => request.builderid === item.builderid);
      case 'builders/forceschedulers':
        return rows.filter((one) => one.builder_names.includes(item.name));
      case 'workers/builds':
        return rows.filter((build) => build.workerid === item.workerid);
      case 'builds/steps':
        return rows.filter((step) => step.buildid === item.buildid);
      case 'builds/changes':
        return rows.filter((change) => change.revision === item.properties.got_revision?.[0]);
      case 'buildrequests/builds':
        return rows.filter((build) => build.buildrequestid === item.buildrequestid);
      case 'masters/configurations':
        return rows.filter((version) => version.masterid === item.masterid);
      case 'notifiers/deliveries':
        return rows.filter((delivery) => delivery.notifier === item.name);
      case 'steps/logs':
        return rows.filter((log) => log.stepid === item.stepid);
      default:
        return undefined;
    }
  }

  logText(logid, offset, limit) {
    const text = this.#texts.get(logid);
    if (typeof text === 'function') {
      const log = this.tables.logs.find((one) => one.logid === logid);
      const last = Math.min(log.num_lines, offset + limit);
      let out = '';
      for (let i = offset; i < last; i += 1) out += `${text(i)}\n`;
      return out;
    }
    return (text ?? []).slice(offset, offset + limit).map((line) => `${line}\n`).join('');
  }

  #actors() {
    const alive = now() - this.#bornAt;
    const supervised = (kind) => (kind === 'supervisor' ? { strategy: 'one-for-one', origins: { intensity: '[supervision]', strategy: '[supervision]' } } : {
      policy: { restart: 'permanent', 'backoff-min': '50ms', 'backoff-max': '30s', 'healthy-after': '1m', grace: '10s', 'hang-after': '30s' },
      origins: { restart: 'code', backoff: '[supervision]', grace: '[supervision]', 'hang-after': '[supervision]', intensity: '[supervision]', period: '[supervision]' },
    });
    const actor = (name, kind, parent, more = {}) => ({
      name, kind, parent, masterid: 1, state: 'running', until: null, births: 1, restarts: 0, intensity: 5, own_intensity: false, period_ms: 60_000, exits: [],
      queue_depth: 0, in_flight: 0, queue_bound: 1024, handled: alive * 7, slowest: { message: 'Handle', ms: 0.4 }, stalls: 0, held_ms: null, observed: {},
      ...supervised(kind), ...more,
    });
    const list = [
      actor('root', 'supervisor', null, { queue_bound: 0 }),
      actor('storage', 'supervisor', 'root', { queue_bound: 0 }),
      actor('db-writer', 'DbWriter', 'storage', {
        handled: alive * 120, restarts: 1, queue_depth: 3, observed: { group_size_p50: 4, commits_per_s: 31, clock: this.clock },
        exits: [{ name: 'db-writer', kind: 'panicked', message: 'index out of bounds: the len is 3 but the index is 3', at: (this.#bornAt - 600) * 1e6, birth: 1, lived_ms: 7_200_000, back_ms: 31.4 }],
      }),
      actor('log-writer', 'LogWriter', 'storage', { handled: alive * 900, queue_depth: 930, observed: { bytes_per_s: 1_200_000 } }),
      actor('data', 'DataActor', 'root', { handled: alive * 240, slowest: { message: 'Snapshot', ms: 3.1 } }),
      actor('broker', 'Broker', 'root', { handled: alive * 400 }),
      actor('schedulers', 'supervisor', 'root', { queue_bound: 0 }),
      actor('scheduler.all', 'AnyBranch', 'schedulers'),
      actor('change-sources', 'supervisor', 'root', { queue_bound: 0 }),
      actor('poller.repo', 'GitPoller', 'change-sources', {
        state: 'backing-off', restarts: 3, until: (now() + 4) * 1e6, exits: [{ name: 'poller.repo', kind: 'failed', message: 'remote hung up unexpectedly', at: (now() - 8) * 1e6, birth: 3, lived_ms: 12_000, back_ms: null }],
      }),
      actor('builders', 'supervisor', 'root', { queue_bound: 0 }),
    ];
    for (const { name, kind, observed } of this.#operations.actors()) list.push(actor(name, kind, 'root', { observed }));
    for (const builder of this.tables.builders) list.push(actor(`builder.${builder.name}`, 'Builder', 'builders', { queue_bound: 64 }));
    return list;
  }

  // Control

  control(path, method, params) {
    const found = this.find(path);
    if (found?.item === undefined) return { error: { status: 500, code: -32603, message: `no such entity: ${path}` } };
    const { item } = found;
    switch (`${found.kind} ${method}`) {
      case 'builds stop':
        item.stopped = params.reason || 'stopped on the page';
        return {};
      case 'builds rebuild':
        return { result: this.#ask([item.builderid], 'rebuild', { branch: 'main', owner: 'ada@example.org' }, item.buildid) };
      case 'buildrequests cancel':
        Object.assign(item, { claimed: true, complete: true, complete_at: now(), results: 6 });
        this.#emit('buildrequests', item, 'complete');
        return {};
      case 'workers pause':
      case 'workers unpause':
        item.paused = method === 'pause';
        item.pause_reason = item.paused ? params.reason || null : null;
        this.#emit('workers', item, 'state_updated');
        return {};
      case 'schedulers enable':
        item.enabled = params.enabled;
        this.#emit('schedulers', item, 'updated');
        return {};
      case 'notifiers test':
      case 'masters reload':
      case 'masters rollback': {
        const answer = this.#operations.control(found.kind, item, method, params);
        this.#publish(['control/acts/1/answered'], { reason: '' });
        return answer;
      }
      case 'forceschedulers force':
        return this.#force(item, params);
      default:
        return { error: { status: 501, code: -32601, message: `action: ${method} is not supported` } };
    }
  }

  #force(scheduler, params) {
    if (!String(params.reason ?? '').trim()) return { error: { status: 400, code: -32602, message: { reason: "'reason' needs to be specified" } } };
    const names = params.builderNames ?? scheduler.builder_names;
    const ids = this.tables.builders.filter((builder) => names.includes(builder.name)).map((builder) => builder.builderid);
    return { result: this.#ask(ids, `A build was forced: ${params.reason}`, { branch: params.branch ?? 'main', owner: params.username }) };
  }

  // Living

  #id(kind) {
    this.#ids[kind] = (this.#ids[kind] ?? 0) + 1;
    return this.#ids[kind];
  }

  #emit(kind, entity, event, keys) {
    const id = entity[idField(kind)];
    const copy = kind === 'builds' ? { ...entity, properties: {}, stopped: undefined } : { ...entity };
    this.#publish((keys ?? [`${kind}/${id}`]).map((key) => `${key}/${event}`), copy);
  }

  #publish(keys, entity) {
    this.#seq += 1;
    const event = { seq: this.#seq, keys, entity: structuredClone(entity) };
    this.#events.push(event);
    if (this.#events.length > KEPT_EVENTS) this.#events.shift();
    for (const listener of this.listeners) listener(event);
  }

  #found(count) {
    const t = this.tables;
    t.masters.push({ masterid: 1, name: 'main', active: true, last_active: now() });
    for (let i = 0; i < count; i += 1) {
      const name = NAMES[i] ?? `project-${String(i).padStart(4, '0')}`;
      t.builders.push({
        builderid: this.#id('builders'), name, description: name === 'fuzz' ? 'Fuzzes the parsers for a while.' : null, description_format: null,
        description_html: null, masterids: [1], projectid: null, tags: TAGS[name] ?? ['linux'],
      });
    }
    const all = t.builders.map((builder) => ({ masterid: 1, builderid: builder.builderid }));
    const macos = all.filter((on) => t.builders[on.builderid - 1].name === 'macos-m2');
    const rest = all.filter((on) => !macos.includes(on));
    const worker = (name, on, connected, info) =>
      t.workers.push({
        workerid: this.#id('workers'), name, workerinfo: info, paused: false, pause_reason: null, graceful: false,
        connected_to: connected ? [{ masterid: 1 }] : [], configured_on: on,
      });
    worker('linux-amd64-01', rest, true, { host: 'Debian 12, 16 cores', admin: 'Ops <ops@example.org>', version: '4.3.0', access_uri: null });
    worker('linux-arm64-01', rest, true, { host: 'Debian 12, Ampere', admin: 'Ops <ops@example.org>', version: '4.3.0', access_uri: null });
    worker('macos-m2-01', macos, false, {});
    t.schedulers.push({ schedulerid: 1, name: 'commits', enabled: true, master: t.masters[0] }, { schedulerid: 2, name: 'force', enabled: true, master: t.masters[0] });
    const field = (more) => ({ autopopulate: null, default: '', hide: false, maxsize: null, multiple: false, regex: null, required: false, size: 20, tooltip: '', ...more, label: more.label ?? more.name, tablabel: more.label ?? more.name });
    const group = (more) => field({ type: 'nested', name: '', fullName: null, label: '', layout: 'vertical', columns: 1, ...more });
    t.forceschedulers.push({
      name: 'force', button_name: 'Force', label: 'Force a build', enabled: true, builder_names: t.builders.map((builder) => builder.name),
      all_fields: [
        group({ fields: [
          field({ type: 'username', name: 'username', fullName: 'username', label: 'Your name:', need_email: true }),
          field({ type: 'text', name: 'reason', fullName: 'reason', default: 'force build', required: true }),
          field({ type: 'int', name: 'priority', fullName: 'priority', default: 0 }),
        ] }),
        group({ columns: 2, fields: [
          field({ type: 'list', name: 'branch', fullName: 'branch', label: 'Branch:', choices: ['main', 'release/1.2'], default: 'main' }),
          field({ type: 'text', name: 'revision', fullName: 'revision', label: 'Revision:' }),
        ] }),
        group({ name: 'options', fullName: 'options', label: 'Options', columns: 2, fields: [
          field({ type: 'bool', name: 'clean', fullName: 'options_clean', label: 'Clean build', default: false, tooltip: 'Throws the old tree away.' }),
          field({ type: 'list', name: 'level', fullName: 'options_level', label: 'Optimisation', choices: ['debug', 'release'], strict: true, default: 'release' }),
        ] }),
      ],
    });
  }

  /** A history, so that the first page is not empty. */
  #past() {
    for (let i = 0; i < 12; i += 1) this.#addChange(now() - 4000 + i * 300);
    for (const builder of this.tables.builders) {
      if (builder.name === 'macos-m2') continue;
      for (let number = 1; number <= 24; number += 1) {
        const start = now() - (26 - number) * 140 - builder.builderid * 7;
        this.#finishedBuild(builder, start, number > 20);
      }
    }
    const mac = this.tables.builders.find((builder) => builder.name === 'macos-m2');
    if (mac) for (let i = 0; i < 3; i += 1) this.#ask([mac.builderid], 'scheduler commits', { branch: 'main', owner: AUTHORS[i] });
  }

  #finishedBuild(builder, start, late) {
    const fate = late ? (FATE[builder.name] ?? 'success') : builder.name === 'clippy' ? pick(['warnings', 'warnings', 'success']) : Math.random() < 0.06 ? pick(['failure', 'cancelled', 'exception']) : 'success';
    const build = this.#newBuild(builder, start, pick(this.tables.changes), 0);
    let at = start;
    for (const name of STEPS) {
      const result = name === 'test' ? fate : name === 'lint' && fate === 'warnings' ? 'warnings' : 'success';
      const took = name === 'test' ? 14 + Math.floor(Math.random() * 20) : 1 + Math.floor(Math.random() * 5);
      const step = this.#newStep(build, name, at);
      const log = name === 'worker_preparation' ? null : this.#newLog(step);
      if (log) {
        const lines = this.#text(name, result);
        this.#texts.set(log.logid, lines);
        if (name === 'test' && this.#lines > 0) this.#huge(log, result);
        else log.num_lines = lines.length;
        log.complete = true;
      }
      at += took;
      Object.assign(step, { complete: true, complete_at: at, results: CODE[result], state_string: phrase(name, result) });
      if (result !== 'success' && result !== 'warnings') break;
    }
    Object.assign(build, { complete: true, complete_at: at, results: CODE[fate], state_string: fate === 'success' ? 'build successful' : phrase('test', fate) });
    this.#operations.told(build, builder, fate, at);
  }

  #huge(log, result) {
    log.num_lines = this.#lines;
    const tail = this.#texts.get(log.logid);
    this.#texts.set(log.logid, (i) => (i >= this.#lines - tail.length && result !== 'success' ? tail[i - this.#lines + tail.length] : `oline ${i + 1} of a long log`));
  }

  #newBuild(builder, start, change, requestid) {
    const number = this.#id(`builds of ${builder.builderid}`);
    const worker = builder.name.includes('arm') ? this.tables.workers[1] : this.tables.workers[0];
    const build = {
      buildid: this.#id('builds'), number, builderid: builder.builderid, buildrequestid: requestid, workerid: worker.workerid, masterid: 1, started_at: start,
      complete: false, complete_at: null, locks_duration_s: 0, results: null, state_string: 'starting',
      properties: {
        buildername: [builder.name, 'Builder'], buildnumber: [number, 'Build'], workername: [worker.name, 'Worker'], branch: [change.branch, 'Build'],
        revision: [change.revision, 'Build'], got_revision: [change.revision, 'git'], owner: [change.author, 'Change'], scheduler: ['commits', 'Scheduler'],
        configuration: [this.#operations.number, 'Build'],
      },
    };
    if (requestid === 0) {
      const [, requests] = this.#ask([builder.builderid], `scheduler commits: ${change.comments}`, { branch: change.branch, owner: change.author }, null, true);
      build.buildrequestid = Object.values(requests)[0];
      const request = this.tables.buildrequests[build.buildrequestid - 1];
      Object.assign(request, { claimed: true, complete: true, complete_at: start, submitted_at: start - 2, results: 0 });
    }
    this.tables.builds.push(build);
    return build;
  }

  #newStep(build, name, at) {
    const number = this.#id(`steps of ${build.buildid}`) - 1;
    const step = {
      stepid: this.#id('steps'), number, name, buildid: build.buildid, started_at: at, locks_acquired_at: at, complete: false, complete_at: null, results: null,
      state_string: 'running', urls: name === 'package' ? [{ name: 'artifact', url: 'https://example.org/a.deb' }] : [], hidden: name === 'worker_preparation',
    };
    this.tables.steps.push(step);
    return step;
  }

  #newLog(step) {
    const log = { logid: this.#id('logs'), name: 'stdio', slug: 'stdio', stepid: step.stepid, complete: false, num_lines: 0, type: 's' };
    this.tables.logs.push(log);
    this.#texts.set(log.logid, []);
    return log;
  }

  #text(name, result) {
    const lines = [`h/bin/sh -c 'make ${name}'`, 'h in dir /srv/worker/build (timeout 1200 secs)'];
    if (name === 'git') return [...lines, 'oFetching origin', 'eFrom https://example.org/repo', 'e   2f620a9..26e8a1e  main -> origin/main', 'hprogram finished with exit code 0'];
    if (name === 'compile') {
      for (let i = 1; i <= 40; i += 1) lines.push(`o${E}32m[${String(Math.round(i * 2.5)).padStart(3)}%]${E}0m Building C object src/module_${i}.c.o`);
      lines.push(`e${E}1msrc/module_9.c:42:5:${E}0m ${E}1;35mwarning:${E}0m unused variable '${E}1mleft${E}0m' [-Wunused-variable]`);
      lines.push(`o\rlinking  10%\rlinking  60%\rlinking 100%`, `o${E}38;5;208mpalette 208${E}0m ${E}38;2;250;240;120mtrue colour${E}0m ${E}7mreverse${E}0m ${E}4munderline${E}0m ${E}41;97m on red ${E}0m`);
      lines.push(`o\u001b]8;;https://example.org/report\u0007a link\u001b]8;;\u0007 and a bell \u0007 and <b>no markup</b>`, `o${'long '.repeat(1500)}`);
    }
    if (name === 'test') {
      for (let i = 1; i <= 320; i += 1) lines.push(`otest module_${i % 17}::case_${i} ... ${E}32mok${E}0m`);
      if (result === 'failure') lines.push(`otest module_11::case_42 ... ${E}31mFAILED${E}0m`, `e${E}1;31mthread 'case_42' panicked at src/lib.rs:42:5: assertion failed: left == right${E}0m`, 'e  left: 42', 'e right: 41', 'otest result: FAILED. 319 passed; 1 failed');
      else if (result === 'exception') lines.push('eupload: no such file: nope.txt');
      else lines.push('otest result: ok. 320 passed; 0 failed');
    }
    return [...lines, `hprogram finished with exit code ${result === 'failure' ? 1 : 0}`, 'helapsedTime=3.141593'];
  }

  #addChange(at) {
    const revision = Array.from({ length: 40 }, () => pick([...'0123456789abcdef'])).join('');
    const change = {
      changeid: this.#id('changes'), author: pick(AUTHORS), committer: null, comments: `${pick(COMMENTS)}\n\nLonger words about it.`, branch: Math.random() < 0.85 ? 'main' : 'release/1.2',
      revision, revlink: '', when_timestamp: at, category: null, parent_changeids: [], repository: 'https://example.org/repo', codebase: '', project: '', files: ['src/lib.rs', 'docs/guide.md'], properties: {}, sourcestamp: {},
    };
    this.tables.changes.push(change);
    return change;
  }

  #change() {
    const change = this.#addChange(now());
    this.#publish([`changes/${change.changeid}/new`], change);
    const ids = this.tables.builders.filter(() => Math.random() < 0.5).map((builder) => builder.builderid).slice(0, 5);
    if (ids.length > 0) this.#ask(ids, `scheduler commits: ${change.comments.split('\n')[0]}`, { branch: change.branch, owner: change.author, change });
  }

  #ask(builderids, reason, { branch, owner, change }, rebuilt = null, quiet = false) {
    const bsid = this.#id('buildsets');
    const stamp = { ssid: bsid, branch, revision: change?.revision ?? null, project: '', repository: 'https://example.org/repo', codebase: '', created_at: now(), patch: null };
    const set = { bsid, external_idstring: null, reason, submitted_at: now(), complete: false, complete_at: null, results: null, parent_buildid: null, parent_relationship: null, rebuilt_buildid: rebuilt, sourcestamps: [stamp] };
    this.tables.buildsets.push(set);
    if (!quiet) this.#emit('buildsets', set, 'new');
    const requests = {};
    for (const builderid of builderids) {
      const request = {
        buildrequestid: this.#id('buildrequests'), buildsetid: bsid, builderid, priority: 0, claimed: false, claimed_at: null, claimed_by_masterid: null, complete: false,
        complete_at: null, results: -1, submitted_at: now(), waited_for: false, properties: { owner: [owner ?? 'anonymous', 'Change'], branch: [branch, 'Change'] },
      };
      this.tables.buildrequests.push(request);
      requests[builderid] = request.buildrequestid;
      if (!quiet) this.#emitRequest(request, 'new');
    }
    return [bsid, requests];
  }

  #emitRequest(request, event) {
    const { buildrequestid: id, builderid, buildsetid } = request;
    const keys = [`buildsets/${buildsetid}/builders/${builderid}/buildrequests/${id}`, `buildrequests/${id}`, `builders/${builderid}/buildrequests/${id}`];
    this.#publish(keys.map((key) => `${key}/${event}`), { ...request, properties: null });
  }

  /** Gives waiting requests to workers that are connected, not paused and have a free slot of two. */
  #handOut() {
    for (const request of this.tables.buildrequests.filter((one) => !one.claimed)) {
      const builder = this.tables.builders[request.builderid - 1];
      const worker = builder.name.includes('arm') ? this.tables.workers[1] : this.tables.workers[0];
      const busy = this.tables.builds.filter((build) => !build.complete && build.workerid === worker.workerid).length;
      const able = worker.configured_on.some((on) => on.builderid === builder.builderid);
      if (!able || worker.paused || worker.connected_to.length === 0 || busy >= 2) continue;
      Object.assign(request, { claimed: true, claimed_at: now(), claimed_by_masterid: 1 });
      this.#emitRequest(request, 'claimed');
      void this.#run(builder, request);
    }
  }

  #sleep(ms) {
    return new Promise((resolve) => setTimeout(resolve, ms / this.#speed));
  }

  #emitBuild(build, event) {
    this.#emit('builds', build, event, [`builders/${build.builderid}/builds/${build.number}`, `builds/${build.buildid}`, `workers/${build.workerid}/builds/${build.buildid}`]);
  }

  #emitStep(step, event) {
    this.#emit('steps', step, event, [`builds/${step.buildid}/steps/${step.stepid}`, `steps/${step.stepid}`]);
  }

  #emitLog(log, event) {
    this.#emit('logs', log, event, [`logs/${log.logid}`, `steps/${log.stepid}/logs/${log.slug}`]);
  }

  async #run(builder, request) {
    const build = this.#newBuild(builder, now(), this.tables.changes.at(-1), request.buildrequestid);
    this.#publish([`builds/${build.buildid}/properties/update`], build.properties);
    this.#emitBuild(build, 'new');
    const fate = FATE[builder.name] ?? (Math.random() < 0.1 ? 'failure' : 'success');
    let result = 'success';
    for (const name of STEPS) {
      const wanted = name === 'test' ? fate : 'success';
      result = await this.#runStep(build, name, wanted);
      if (result !== 'success' && result !== 'warnings') break;
    }
    Object.assign(build, { complete: true, complete_at: now(), results: CODE[result === 'success' && fate === 'warnings' ? 'warnings' : result], state_string: result === 'success' ? 'build successful' : phrase('test', result) });
    this.#emitBuild(build, 'finished');
    this.#operations.told(build, builder, result === 'success' ? fate : result);
    Object.assign(request, { complete: true, complete_at: now(), results: build.results });
    this.#emitRequest(request, 'complete');
  }

  async #runStep(build, name, wanted) {
    const step = this.#newStep(build, name, now());
    this.#emitStep(step, 'new');
    this.#emitStep(step, 'started');
    build.state_string = name;
    this.#emitBuild(build, 'update');
    const log = name === 'worker_preparation' ? null : this.#newLog(step);
    if (log) this.#emitLog(log, 'new');
    for (const line of log ? this.#text(name, wanted) : []) {
      if (build.stopped) break;
      this.#texts.get(log.logid).push(line);
      log.num_lines += 1;
      if (Math.random() < 0.25) {
        this.#emitLog(log, 'append');
        await this.#sleep(60 + Math.random() * 100);
      }
    }
    if (log) {
      log.complete = true;
      this.#emitLog(log, 'append');
      this.#emitLog(log, 'finished');
    }
    const result = build.stopped ? 'cancelled' : wanted;
    Object.assign(step, { complete: true, complete_at: now(), results: CODE[result], state_string: build.stopped ? `stopped: ${build.stopped}` : phrase(name, result) });
    this.#emitStep(step, 'finished');
    return result;
  }
}

function idField(kind) {
  return { builders: 'builderid', builds: 'buildid', buildrequests: 'buildrequestid', buildsets: 'bsid', steps: 'stepid', logs: 'logid', changes: 'changeid', workers: 'workerid', masters: 'masterid', notifiers: 'notifierid', deliveries: 'deliveryid', configurations: 'configurationid', schedulers: 'schedulerid', forceschedulers: 'name' }[kind];
}

function phrase(name, result) {
  if (result === 'failure') return `${name} failed: 1 of 320`;
  if (result === 'exception') return `${name}: no such file nope.txt`;
  if (result === 'warnings') return `${name}: 3 warnings`;
  return result === 'cancelled' ? `${name} cancelled` : `${name} finished`;
}
