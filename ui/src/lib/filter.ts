import type { Builder, Outcome } from './model';

/** What a filter is tested against. */
export interface Candidate {
  builder: Pick<Builder, 'name' | 'tags' | 'description'>;
  outcome: Outcome;
  running: boolean;
  workers: readonly string[];
}

export interface Term {
  /** As typed. */
  text: string;
  field: 'name' | 'tag' | 'result' | 'worker' | 'text';
  value: string;
  not: boolean;
}

const FIELDS = new Set(['name', 'tag', 'result', 'worker']);

/** `linux tag:nightly -result:success`: all terms must hold. */
export function parseFilter(text: string): Term[] {
  return text
    .trim()
    .split(/\s+/)
    .filter((term) => term !== '' && term !== '-')
    .map((term) => {
      const not = term.startsWith('-');
      const bare = not ? term.slice(1) : term;
      const at = bare.indexOf(':');
      const field = bare.slice(0, Math.max(0, at));
      if (!FIELDS.has(field)) return { text: term, field: 'text', value: bare.toLowerCase(), not };
      return { text: term, field: field as Term['field'], value: bare.slice(at + 1).toLowerCase(), not };
    });
}

/** Whether the letters of `needle` stand in `text` in this order. */
export function fuzzy(text: string, needle: string): boolean {
  let at = 0;
  for (const letter of needle) {
    at = text.indexOf(letter, at) + 1;
    if (at === 0) return false;
  }
  return true;
}

function holds(term: Term, candidate: Candidate): boolean {
  const { builder, outcome, running, workers } = candidate;
  const value = term.value;
  switch (term.field) {
    case 'name':
      return builder.name.toLowerCase().includes(value);
    case 'tag':
      return builder.tags.some((tag) => tag.toLowerCase() === value);
    case 'worker':
      return workers.some((name) => name.toLowerCase().includes(value));
    case 'result':
      if (value === 'broken') return outcome === 'failure' || outcome === 'exception';
      return value === 'running' ? running : outcome === value;
    default:
      return (
        fuzzy(builder.name.toLowerCase(), value) ||
        builder.tags.some((tag) => tag.toLowerCase().includes(value)) ||
        (builder.description ?? '').toLowerCase().includes(value)
      );
  }
}

export function matches(terms: readonly Term[], candidate: Candidate): boolean {
  return terms.every((term) => holds(term, candidate) !== term.not);
}

/** The term without which something would be left, if there is one. */
export function excluding(terms: readonly Term[], candidates: readonly Candidate[]): Term | null {
  for (const term of terms) {
    const others = terms.filter((other) => other !== term);
    if (candidates.some((candidate) => matches(others, candidate))) return term;
  }
  return null;
}
