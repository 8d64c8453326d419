/** A farm: the real program, with its configuration, data and port in a directory of its own. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, openSync, closeSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { until } from './wait.mjs';

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');
const SERVING_MS = 30_000;
const STOPPING_MS = 30_000;

/** The program under test; without it nothing is tested, so that is an error. */
export function binary() {
  const path = resolve(ROOT, process.env.GREENROOM_BINARY ?? 'target/debug/greenroom');
  try {
    accessSync(path, constants.X_OK);
  } catch (cause) {
    throw new Error(`no program at ${path}: run \`cargo build\`, or set GREENROOM_BINARY`, { cause });
  }
  return path;
}

/** A port that nobody listens on; it stays the farm's over restarts. */
async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}

export class Farm {
  #master = null;

  constructor(dir, port) {
    this.dir = dir;
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
  }

  /** Lays out a farm with this configuration (a text, or a function of its directory) and starts it. */
  static async raise(config) {
    const program = binary();
    const dir = await mkdtemp(join(tmpdir(), 'greenroom-e2e-'));
    const farm = new Farm(dir, await freePort());
    const head = `[master]
title = "End to end"
data-dir = ${JSON.stringify(join(dir, 'data'))}
[www]
listen = "127.0.0.1:${farm.port}"
auth = "none"
`;
    await writeFile(join(dir, 'farm.toml'), head + (typeof config === 'function' ? config(dir) : config));
    farm.program = program;
    try {
      await farm.start();
    } catch (error) {
      await farm.end();
      throw error;
    }
    return farm;
  }

  /** Starts the master and waits until it serves. */
  async start() {
    const log = openSync(join(this.dir, 'master.log'), 'a');
    // A group of its own, so that nothing of it can stay behind.
    const master = spawn(this.program, ['master', '--config', join(this.dir, 'farm.toml')], {
      stdio: ['ignore', log, log],
      detached: true,
    });
    closeSync(log);
    await once(master, 'spawn');
    this.#master = master;
    await until('master that serves', SERVING_MS, async () => {
      if (master.exitCode !== null) return true;
      return (await fetch(`${this.url}/health`)).ok;
    });
    if (master.exitCode !== null) throw new Error(`the master ended:\n${this.output()}`);
  }

  output() {
    return readFileSync(join(this.dir, 'master.log'), 'utf8').slice(-8000);
  }

  /** Replaces the configuration file by what `change` makes of its text; nothing is reloaded. */
  async edit(change) {
    const file = join(this.dir, 'farm.toml');
    const text = await readFile(file, 'utf8');
    const next = change(text);
    if (next === text) throw new Error('the edit changes nothing');
    await writeFile(`${file}.new`, next);
    await rename(`${file}.new`, file);
  }

  signal(name) {
    this.#master.kill(name);
  }

  /** Ends the master as by power loss. */
  async kill() {
    const master = this.#master;
    this.#master = null;
    const ended = once(master, 'exit');
    master.kill('SIGKILL');
    await ended;
  }

  /** Stops the master in order and removes all that it left. */
  async end() {
    const master = this.#master;
    if (master !== null && master.exitCode === null) {
      const ended = once(master, 'exit', { signal: AbortSignal.timeout(STOPPING_MS) });
      master.kill('SIGTERM');
      await ended.catch(() => {
        process.kill(-master.pid, 'SIGKILL');
        throw new Error(`the master did not stop:\n${this.output()}`);
      });
    }
    await rm(this.dir, { recursive: true, force: true });
  }

  /** The items of a collection. */
  async get(path) {
    const response = await fetch(`${this.url}/api/v2/${path}`, { headers: { Accept: 'application/json' } });
    const body = await response.json();
    if (!response.ok) throw new Error(`${path}: ${response.status} ${JSON.stringify(body)}`);
    return Object.entries(body).find(([key]) => key !== 'meta')[1];
  }

  async control(path, method, params = {}) {
    const response = await fetch(`${this.url}/api/v2/${path}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
    });
    const body = await response.json();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${JSON.stringify(body)}`);
    return body.result;
  }

  /** Asks for a build of a builder by the scheduler `force`; gives the id of the request. */
  async force(builder, properties = {}) {
    const [, requests] = await this.control('forceschedulers/force', 'force', { builderNames: [builder], ...properties });
    return Object.values(requests)[0];
  }

  async builderId(name) {
    const found = (await this.get('builders')).find((builder) => builder.name === name);
    return found.builderid;
  }

  /** Waits until workers of these names are connected. */
  async connected(...names) {
    await until(`workers ${names.join(', ')}`, SERVING_MS, async () => {
      const workers = await this.get('workers');
      return names.every((name) => workers.some((one) => one.name === name && one.connected_to.length > 0));
    });
  }

  /** Waits until nothing runs and nothing waits for the builders named. */
  async settled(withinMs, ...builders) {
    const ids = await Promise.all(builders.map((name) => this.builderId(name)));
    await until('end of all builds', withinMs, async () => {
      const requests = await this.get('buildrequests?complete=false');
      return requests.every((request) => !ids.includes(request.builderid));
    });
  }
}
