import { get } from './api';
import { lastOverwrite } from './log/ansi';
import { isBroken, stepOutcome, type Log, type Step } from './model';

/** The line that says what went wrong, with what stands around it. */
export interface FirstError {
  step: Step;
  log: Log;
  /** From 1. */
  line: number;
  text: string;
  around: { number: number; text: string }[];
}

/** How much of the end of a failed log is looked at. */
const TAIL_LINES = 1000;
const KEPT = 200;
const CUT = 400;

// The control character is the point here.
// eslint-disable-next-line no-control-regex
const SEQUENCES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\))/g;
const ERROR =
  /(^|[^\w-])(error|fatal|panicked|exception|traceback|segmentation fault|assertion|undefined reference|no such file|command not found|permission denied|timed out|killed|not ok)\b|\bFAIL(ED)?\b/i;
const NO_ERROR = /\b(0|no) (errors?|failed|failures?)\b|-Werror|error(-|_)|(^|\s)-\S*error/i;

function isError(text: string): boolean {
  return ERROR.test(text) && !NO_ERROR.test(text);
}

/** Text of a stored line without its stream letter, colours and overwritten parts. */
export function plainText(raw: string, type: string): string {
  return lastOverwrite(type === 's' ? raw.slice(1) : raw).replace(SEQUENCES, '');
}

/**
 * The first line of the end of a log that reads like an error; else the last line that was written.
 * @param first number of the first line of `raw`, from 1
 */
export function findError(raw: readonly string[], type: string, first: number): { line: number; text: string } | null {
  let last: { line: number; text: string } | null = null;
  for (const [index, line] of raw.entries()) {
    if (type === 's' && line.startsWith('h')) continue;
    const text = plainText(line, type).slice(0, CUT);
    if (text.trim() === '') continue;
    if (isError(text)) return { line: first + index, text };
    last = { line: first + index, text };
  }
  return last;
}

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
  const steps = await get<Step>(`builds/${buildid}/steps`);
  const step = steps.items.sort((a, b) => a.number - b.number).find((one) => isBroken(stepOutcome(one)));
  if (step === undefined) return null;
  const logs = (await get<Log>(`steps/${step.stepid}/logs`)).items.filter((log) => log.num_lines > 0 && log.type !== 'h');
  const log = logs.find((one) => one.slug === 'stdio') ?? logs[0];
  if (log === undefined) return null;
  const offset = Math.max(0, log.num_lines - TAIL_LINES);
  const reply = await get<{ content: string }>(`logs/${log.logid}/contents`, { offset, limit: TAIL_LINES });
  const raw = (reply.items[0]?.content ?? '').replace(/\n$/, '').split('\n');
  const error = findError(raw, log.type, offset + 1);
  if (error === null) return null;
  const at = error.line - offset - 1;
  const from = Math.max(0, at - 1);
  const around = raw.slice(from, at + 4).map((line, index) => ({
    number: offset + from + index + 1,
    text: plainText(line, log.type).slice(0, CUT),
  }));
  return { step, log, ...error, around };
}
