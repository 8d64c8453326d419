/** Real paths by the History API. The address is the only state that pages share with it. */

export interface Route<P extends string = string> {
  page: P;
  params: Record<string, string>;
}

/** A path pattern, for example `/builders/{name}`, split once. */
export function matchPath(pattern: string, path: string): Record<string, string> | null {
  const want = pattern.split('/');
  const have = path.split('/');
  if (want.length !== have.length) return null;
  const params: Record<string, string> = {};
  for (const [index, part] of want.entries()) {
    const given = have[index] ?? '';
    if (part.startsWith('{')) {
      if (given === '') return null;
      params[part.slice(1, -1)] = decode(given);
    } else if (part !== given) {
      return null;
    }
  }
  return params;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Path of old hash links (`/#/builders/3/builds/12`), or null. */
export function fromHashLink(pathname: string, hash: string): string | null {
  return pathname === '/' && hash.startsWith('#/') ? hash.slice(1) : null;
}

class Location {
  path = $state('/');
  query = $state(new URLSearchParams());
  hash = $state('');

  read(): void {
    const old = fromHashLink(window.location.pathname, window.location.hash);
    if (old !== null) history.replaceState(history.state, '', old);
    this.path = window.location.pathname.replace(/(.)\/+$/, '$1');
    this.query = new URLSearchParams(window.location.search);
    this.hash = window.location.hash;
  }
}

export const location = new Location();

/** Goes to an address of the page; `replace` leaves no entry in the history. */
export function navigate(url: string, options: { replace?: boolean } = {}): void {
  if (options.replace) {
    history.replaceState(history.state, '', url);
  } else {
    rememberScroll();
    history.pushState({}, '', url);
  }
  const before = location.path;
  location.read();
  if (!options.replace && location.path !== before && location.hash === '') window.scrollTo(0, 0);
}

/** Sets one query parameter in place; an empty value removes it. */
export function setQuery(name: string, value: string): void {
  const query = new URLSearchParams(location.query);
  if (value === '') query.delete(name);
  else query.set(name, value);
  const text = query.toString();
  navigate(location.path + (text === '' ? '' : `?${text}`) + location.hash, { replace: true });
}

function rememberScroll(): void {
  history.replaceState({ ...history.state, scroll: window.scrollY }, '');
}

function restoreScroll(): void {
  const wanted = (history.state as { scroll?: number } | null)?.scroll ?? 0;
  // The page grows as its data is drawn: a few frames are given to it.
  let tries = 20;
  const attempt = () => {
    window.scrollTo(0, wanted);
    if (Math.abs(window.scrollY - wanted) > 1 && --tries > 0) requestAnimationFrame(attempt);
  };
  requestAnimationFrame(attempt);
}

function clicked(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey)
    return;
  const anchor = (event.target as Element | null)?.closest('a');
  if (!anchor || anchor.target !== '' || anchor.hasAttribute('download') || anchor.dataset.native !== undefined) return;
  const url = new URL(anchor.href, window.location.href);
  if (url.origin !== window.location.origin || /^\/(api|auth|config|ws|sse)(\/|$)/.test(url.pathname)) return;
  if (anchor.getAttribute('href')?.startsWith('#')) return;
  event.preventDefault();
  navigate(url.pathname + url.search + url.hash);
}

/** Starts to follow clicks and the history; the function that comes back stops it. */
export function startRouter(): () => void {
  history.scrollRestoration = 'manual';
  location.read();
  const popped = () => {
    location.read();
    restoreScroll();
  };
  window.addEventListener('popstate', popped);
  document.addEventListener('click', clicked);
  return () => {
    window.removeEventListener('popstate', popped);
    document.removeEventListener('click', clicked);
  };
}

const seg = encodeURIComponent;

/** Addresses of things, so that no page spells one by hand. */
export const to = {
  builder: (name: string) => `/builders/${seg(name)}`,
  build: (builder: string, number: number) => `/builders/${seg(builder)}/builds/${number}`,
  log: (builder: string, number: number, step: number, slug: string) =>
    `/builders/${seg(builder)}/builds/${number}/steps/${step}/logs/${seg(slug)}`,
  worker: (name: string) => `/workers/${seg(name)}`,
  request: (id: number) => `/requests/${id}`,
  force: (scheduler: string, builder?: string) =>
    `/force/${seg(scheduler)}${builder === undefined ? '' : `?builder=${seg(builder)}`}`,
  actors: (masterid: number) => `/masters/${masterid}/actors`,
  notifier: (name: string) => `/notifiers/${seg(name)}`,
  configuration: (masterid: number, version?: number) =>
    `/masters/${masterid}/configuration${version === undefined ? '' : `?version=${version}`}`,
};
