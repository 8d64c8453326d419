/** REST reads and JSON-RPC control of `/api/v2`. */

const BASE = '/api/v2/';
const TIMEOUT_MS = 30_000;

/** Why a read or an act failed, in words that can be shown. */
export class ApiError extends Error {
  /** HTTP status; 0 when no answer came. */
  readonly status: number;
  /** Texts by field name, when the server refused single fields of a form. */
  readonly fields: Record<string, string>;
  /** The server's id of the request, to find it in the log. */
  readonly requestId: string;

  constructor(message: string, status: number, requestId = '', fields: Record<string, string> = {}) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
    this.requestId = requestId;
    this.fields = fields;
  }
}

export interface Reply<T> {
  items: T[];
  /** Size of the whole collection; null for a single entity. */
  total: number | null;
  /** The clock that the reply stands at, opaque; empty when the server gives none. */
  clock: string;
}

export type Query = Record<string, string | number | boolean | readonly (string | number)[] | undefined>;

/** How far the server's clock is ahead of this browser's, in seconds; small differences count as none. */
export let serverSkewS = 0;

function noteSkew(response: Response): void {
  const date = Date.parse(response.headers.get('date') ?? '');
  if (Number.isNaN(date)) return;
  const skew = date / 1000 - Date.now() / 1000;
  serverSkewS = Math.abs(skew) > 2 ? Math.round(skew) : 0;
}

export function queryString(query: Query): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined) continue;
    for (const item of Array.isArray(value) ? value : [value]) params.append(name, String(item));
  }
  const text = params.toString();
  return text === '' ? '' : `?${text}`;
}

async function request(url: string, init: RequestInit = {}): Promise<Response> {
  try {
    const response = await fetch(url, {
      ...init,
      headers: { Accept: 'application/json', ...init.headers },
      signal: init.signal ?? AbortSignal.timeout(TIMEOUT_MS),
    });
    noteSkew(response);
    return response;
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError('The server did not answer.', 0);
  }
}

async function json(response: Response): Promise<Record<string, unknown>> {
  try {
    return (await response.json()) as Record<string, unknown>;
  } catch {
    throw new ApiError(`The server answered ${response.status} without JSON.`, response.status, requestId(response));
  }
}

function requestId(response: Response): string {
  return response.headers.get('x-request-id') ?? '';
}

/** Reads a collection or a single entity (then one item). */
export async function get<T>(path: string, query: Query = {}): Promise<Reply<T>> {
  const response = await request(BASE + path + queryString(query));
  const body = await json(response);
  if (!response.ok) {
    const text = typeof body.error === 'string' ? body.error : `The server answered ${response.status}.`;
    throw new ApiError(text, response.status, requestId(response));
  }
  const meta = (body.meta ?? {}) as { total?: number };
  const key = Object.keys(body).find((name) => name !== 'meta');
  const items = key === undefined ? [] : (body[key] as T[]);
  return { items, total: meta.total ?? null, clock: response.headers.get('greenroom-clock') ?? '' };
}

/** Reads one entity; 404 is an {@link ApiError}. */
export async function getOne<T>(path: string, query: Query = {}): Promise<{ item: T; clock: string }> {
  const reply = await get<T>(path, query);
  const item = reply.items[0];
  if (item === undefined) throw new ApiError('There is no such thing.', 404);
  return { item, clock: reply.clock };
}

/** Reads any JSON outside `/api/v2`, for example `/config`. */
export async function getJson<T>(url: string): Promise<T> {
  const response = await request(url);
  const body = await json(response);
  if (!response.ok) throw new ApiError(`The server answered ${response.status}.`, response.status, requestId(response));
  return body as T;
}

let nextId = 0;

/** Acts on an entity: JSON-RPC 2.0, POSTed to its path. */
export async function control<T>(path: string, method: string, params: Record<string, unknown> = {}): Promise<T> {
  const response = await request(BASE + path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: ++nextId, method, params }),
  });
  const body = await json(response);
  const error = body.error as { message?: unknown } | string | undefined;
  if (error === undefined && response.ok) return body.result as T;
  const message = typeof error === 'string' ? error : error?.message;
  if (message !== null && typeof message === 'object') {
    const fields = message as Record<string, string>;
    throw new ApiError('Some fields need another value.', response.status, requestId(response), fields);
  }
  const text = typeof message === 'string' ? message : `The server answered ${response.status}.`;
  throw new ApiError(text, response.status, requestId(response));
}
