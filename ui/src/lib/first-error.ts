import { getOne } from './api';

/** The line that says what went wrong, with what stands around it. */
export interface FirstError {
  stepname: string;
  stepnumber: number;
  logid: number;
  logname: string;
  slug: string;
  /** From 1. */
  line: number;
  text: string;
  around: { line: number; text: string }[];
}

const KEPT = 200;
const cache = new Map<number, Promise<FirstError | null>>();

/** The first error of a finished build; null if it has none. Kept, since a finished build does not change. */
export function firstError(buildid: number): Promise<FirstError | null> {
  let found = cache.get(buildid);
  if (found === undefined) {
    found = read(buildid).catch(() => {
      cache.delete(buildid);
      return null;
    });
    cache.set(buildid, found);
    const oldest = cache.keys().next().value;
    if (cache.size > KEPT && oldest !== undefined) cache.delete(oldest);
  }
  return found;
}

async function read(buildid: number): Promise<FirstError | null> {
  const { item } = await getOne<{ first_error: FirstError | null }>(`builds/${buildid}`, { expand: 'first_error' });
  return item.first_error;
}
