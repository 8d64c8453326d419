import { buildOutcome, isBroken, propertyText, type Build, type Outcome } from './model';

/** What the newest builds of a builder say about it. */
export interface BuilderSummary {
  /** Oldest first: the last finished ones, then those that run. */
  strip: Build[];
  running: Build[];
  /** The last finished build of any branch. */
  last: Build | undefined;
  /** The last finished build of a followed branch that says something: not skipped, cancelled or retried. */
  decisive: Build | undefined;
  /** Result of `decisive`; `pending` if there is none. */
  outcome: Outcome;
  /** How many of the newest decisive builds are broken in a row. */
  streak: number;
  /** The first of that row. */
  brokenSince: Build | undefined;
  /** Whether the row reaches back to the oldest build that is known. */
  streakOpen: boolean;
  /** The last good build was preceded by a broken one. */
  fixed: boolean;
  /** Median duration of the known good builds in seconds; null without any. */
  medianS: number | null;
  /** `last` took more than 25 % over the median. */
  slow: boolean;
}

const MAIN_BRANCHES = new Set(['', 'main', 'master', 'trunk', 'develop']);

/** Whether builds of this branch count for "broken"; without a branch they do. */
export function isFollowed(build: Build): boolean {
  return MAIN_BRANCHES.has(propertyText(build.properties, 'branch'));
}

export function durationS(build: Pick<Build, 'started_at' | 'complete_at'>): number | null {
  return build.complete_at === null ? null : Math.max(0, build.complete_at - build.started_at);
}

export function median(values: readonly number[]): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const high = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] ?? 0) + high) / 2;
}

/** The value that `part` (0 to 1) of all values do not exceed. */
export function percentile(values: readonly number[], part: number): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)] ?? null;
}

function isDecisive(build: Build): boolean {
  const outcome = buildOutcome(build);
  return isBroken(outcome) || outcome === 'success' || outcome === 'warnings';
}

/** Sums up the builds of one builder, newest first. */
export function summarize(newestFirst: readonly Build[]): BuilderSummary {
  const finished = newestFirst.filter((build) => build.complete);
  const running = newestFirst.filter((build) => !build.complete);
  const all = finished.filter(isDecisive);
  const followed = all.filter(isFollowed);
  const decisive = followed.length > 0 ? followed : all;
  const firstGood = decisive.findIndex((build) => !isBroken(buildOutcome(build)));
  const streak = firstGood === -1 ? decisive.length : firstGood;
  const good = all.filter((build) => !isBroken(buildOutcome(build)));
  const medianS = median(good.map((build) => durationS(build) ?? 0));
  const last = finished[0];
  const before = decisive[1];
  return {
    strip: [...finished].reverse().concat([...running].reverse()),
    running,
    last,
    decisive: decisive[0],
    outcome: decisive[0] === undefined ? 'pending' : buildOutcome(decisive[0]),
    streak,
    brokenSince: streak > 0 ? decisive[streak - 1] : undefined,
    streakOpen: firstGood === -1 && (newestFirst.at(-1)?.number ?? 1) > 1,
    fixed: streak === 0 && before !== undefined && isBroken(buildOutcome(before)),
    medianS,
    slow: last !== undefined && medianS !== null && medianS >= 1 && (durationS(last) ?? 0) > medianS * 1.25,
  };
}
