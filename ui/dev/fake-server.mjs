/**
 * A small farm that lives in memory, for work on the page without a master: REST reads and
 * control, and the feed with `since`. All its data are made up here.
 *
 *   node dev/fake-server.mjs [--port 8010] [--speed 1] [--builders 8] [--still]
 *
 * `--still` makes nothing happen by itself. `POST /dev/cut?ms=10000` cuts every feed for a while,
 * `POST /dev/forget` makes all older clocks "gone".
 */
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { WebSocketServer } from 'ws';
import { Farm } from './farm.mjs';

const { values: options } = parseArgs({
  options: {
    port: { type: 'string', default: '8010' },
    speed: { type: 'string', default: '1' },
    builders: { type: 'string', default: '8' },
    lines: { type: 'string', default: '0' },
    still: { type: 'boolean', default: false },
  },
});
const dist = join(dirname(fileURLToPath(import.meta.url)), '..', 'dist');
const farm = new Farm({ builders: Number(options.builders), speed: Number(options.speed), lines: Number(options.lines) });
let cutUntil = 0;

const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.json': 'application/json' };

async function policy() {
  try {
    return JSON.parse(await readFile(join(dist, 'csp.json'), 'utf8')).policy;
  } catch {
    return "default-src 'self'";
  }
}

async function serveFile(path, response) {
  const inside = normalize(path).replace(/^(\.\.(\/|$))+/, '');
  const file = extname(inside) === '' ? 'index.html' : inside;
  try {
    const body = await readFile(join(dist, file));
    response.writeHead(200, {
      'Content-Type': TYPES[extname(file)] ?? 'application/octet-stream',
      'Content-Security-Policy': await policy(),
      'Cache-Control': file.startsWith('/assets/') ? 'immutable, max-age=31536000' : 'no-cache',
    });
    response.end(body);
  } catch {
    response.writeHead(404).end('not found');
  }
}

function sendJson(response, status, body, clock = farm.clock) {
  response.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8', 'Greenroom-Clock': clock });
  response.end(JSON.stringify(body));
}

async function readBody(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}

/** Filters, order and paging of the contract, as far as the page uses them. */
function select(items, query) {
  let found = items;
  for (const [name, value] of query) {
    const [field, op = 'eq'] = name.split('__');
    if (['limit', 'offset', 'order', 'property', 'field'].includes(field)) continue;
    const wanted = query.getAll(name).map(String);
    if (op === 'lt') found = found.filter((item) => item[field] < Number(value));
    else if (op === 'ne') found = found.filter((item) => !wanted.includes(String(item[field])));
    else found = found.filter((item) => wanted.includes(String(item[field])));
  }
  for (const order of query.getAll('order').reverse()) {
    const field = order.replace(/^-/, '');
    const sign = order.startsWith('-') ? -1 : 1;
    found = [...found].sort((a, b) => sign * (a[field] > b[field] ? 1 : a[field] < b[field] ? -1 : 0));
  }
  const total = found.length;
  const offset = Number(query.get('offset') ?? 0);
  const limit = query.has('limit') ? Number(query.get('limit')) : total;
  return { items: found.slice(offset, offset + limit), total };
}

function shown(item, query) {
  if (item.properties === undefined) return item;
  const names = query.getAll('property');
  if (names.includes('*')) return item;
  const properties = Object.fromEntries(Object.entries(item.properties ?? {}).filter(([name]) => names.includes(name)));
  return { ...item, properties };
}

function read(path, query, response) {
  const contents = /^logs\/(\d+)\/contents$/.exec(path);
  if (contents) {
    const offset = Number(query.get('offset') ?? 0);
    const limit = Number(query.get('limit') ?? 1e9);
    const content = farm.logText(Number(contents[1]), offset, limit);
    return sendJson(response, 200, { logchunks: [{ logid: Number(contents[1]), firstline: offset, content }], meta: {} });
  }
  const found = farm.find(path);
  if (found === undefined) return sendJson(response, 404, { error: `Invalid path: ${path}` });
  if (Array.isArray(found.items)) {
    const { items, total } = select(found.items, query);
    return sendJson(response, 200, { [found.kind]: items.map((item) => shown(item, query)), meta: { total } });
  }
  if (found.item === undefined) return sendJson(response, 404, { error: `not found: ${path}` });
  return sendJson(response, 200, { [found.kind]: [shown(found.item, query)], meta: {} });
}

async function control(path, request, response) {
  const { id, method, params } = JSON.parse(await readBody(request));
  const { error, result } = farm.control(path, method, params);
  if (error) sendJson(response, error.status, { jsonrpc: '2.0', id, error: { code: error.code, message: error.message } });
  else sendJson(response, 200, { jsonrpc: '2.0', id, result: result ?? null });
}

const server = createServer((request, response) => {
  const url = new URL(request.url, 'http://localhost');
  const path = decodeURIComponent(url.pathname);
  if (url.pathname === '/dev/cut') {
    cutUntil = Date.now() + Number(url.searchParams.get('ms') ?? 10_000);
    for (const client of feed.clients) client.terminate();
    response.end('cut\n');
  } else if (url.pathname === '/dev/forget') {
    farm.forget();
    response.end('forgotten\n');
  } else if (path === '/config') {
    sendJson(response, 200, farm.config());
  } else if (path.startsWith('/api/v2/')) {
    const entity = path.slice('/api/v2/'.length);
    if (request.method === 'POST') void control(entity, request, response);
    else read(entity, url.searchParams, response);
  } else {
    void serveFile(path, response);
  }
});

const feed = new WebSocketServer({ noServer: true });
server.on('upgrade', (request, socket, head) => {
  if (Date.now() < cutUntil || !request.url.startsWith('/ws')) socket.destroy();
  else feed.handleUpgrade(request, socket, head, (client) => attend(client));
});

function fits(pattern, key) {
  const [want, have] = [pattern.split('/'), key.split('/')];
  return want.length === have.length && want.every((part, index) => part === '*' || part === have[index]);
}

function attend(client) {
  const subscriptions = new Map();
  const send = (message) => client.readyState === client.OPEN && client.send(JSON.stringify(message));
  const offer = (id, patterns, event) => {
    const key = event.keys.find((one) => patterns.some((pattern) => fits(pattern, one)));
    if (key !== undefined) send({ k: key, m: event.entity, s: id, c: String(event.seq) });
  };
  const onEvent = (event) => subscriptions.forEach((patterns, id) => offer(id, patterns, event));
  farm.listeners.add(onEvent);
  const quiet = setInterval(() => subscriptions.forEach((_, id) => send({ s: id, c: farm.clock })), 10_000);
  client.on('close', () => {
    farm.listeners.delete(onEvent);
    clearInterval(quiet);
  });
  client.on('message', (data) => {
    const { cmd, _id, path, paths, since } = JSON.parse(data.toString());
    if (cmd === 'stopConsuming') {
      subscriptions.delete(_id);
      return send({ msg: 'OK', code: 200, _id });
    }
    if (cmd !== 'startConsuming') return send({ error: `no such command type '${cmd}'`, code: 404, _id });
    const missed = farm.since(Number(since));
    if (missed === null) return send({ error: 'gone', code: 410, _id });
    const patterns = paths ?? [path];
    subscriptions.set(_id, patterns);
    send({ msg: 'OK', code: 200, _id, clock: farm.clock });
    for (const event of missed) offer(_id, patterns, event);
  });
}

if (!options.still) farm.live();
server.listen(Number(options.port), '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/`));
