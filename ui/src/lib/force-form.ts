import type { FieldSpec } from './model';

/** Values of a force form by `fullName`. */
export type Values = Record<string, unknown>;

/** All fields that hold a value, in the order of the form. */
export function leaves(fields: readonly FieldSpec[]): FieldSpec[] {
  return fields.flatMap((field) => (field.type === 'nested' ? leaves(field.fields ?? []) : [field]));
}

/** The values that the form begins with: the address first, then what was sent last, then the defaults. */
export function startValues(fields: readonly FieldSpec[], query: URLSearchParams, remembered: Values): Values {
  const values: Values = {};
  for (const field of leaves(fields)) {
    const name = field.fullName ?? field.name;
    if (query.has(name)) values[name] = field.multiple ? query.getAll(name) : fromText(field, query.get(name) ?? '');
    else if (name in remembered && !field.hide && field.type !== 'file') values[name] = remembered[name];
    else values[name] = field.multiple && !Array.isArray(field.default) ? [field.default].filter((one) => one !== '') : field.default;
  }
  return values;
}

function fromText(field: FieldSpec, text: string): unknown {
  return field.type === 'bool' ? text === 'true' || text === '1' || text === 'on' : text;
}

/** What is wrong with one value, or null. The server checks again. */
export function fault(field: FieldSpec, value: unknown): string | null {
  if (field.type === 'bool' || field.type === 'fixed') return null;
  const text = Array.isArray(value) ? value.join('') : String(value ?? '').trim();
  if (text === '') return field.required ? `${plainLabel(field)} is needed.` : null;
  if (field.type === 'int' && !/^[+-]?\d+$/.test(text)) return 'A whole number is needed.';
  if (field.type === 'username' && field.need_email && !/^[^<]*<[^@\s]+@[^>\s]+>$|^[^@\s]+@[^@\s]+$/.test(text))
    return 'Give a name and address: Ada <ada@example.org>.';
  if (field.maxsize !== null && text.length > field.maxsize) return `At most ${field.maxsize} characters.`;
  if (field.type === 'list' && field.strict) {
    const allowed = new Set((field.choices ?? []).map(String));
    const chosen = Array.isArray(value) ? value.map(String) : [text];
    if (chosen.some((one) => !allowed.has(one))) return `Choose one of ${[...allowed].join(', ')}.`;
  }
  return field.regex === null || fits(field.regex, text) ? null : `Must fit ${field.regex}.`;
}

/** A pattern that this browser cannot read is left to the server. */
function fits(pattern: string, text: string): boolean {
  try {
    return new RegExp(pattern, 'u').test(text);
  } catch {
    return true;
  }
}

export function faults(fields: readonly FieldSpec[], values: Values): Record<string, string> {
  const found: Record<string, string> = {};
  for (const field of leaves(fields)) {
    if (field.hide) continue;
    const name = field.fullName ?? field.name;
    const text = fault(field, values[name]);
    if (text !== null) found[name] = text;
  }
  return found;
}

/** The label without the colon that configurations like to add. */
export function plainLabel(field: FieldSpec): string {
  const text = (field.label || field.name).replace(/\s*:\s*$/, '');
  return text === field.name ? capitalized(text) : text;
}

/** A plain lower-case word as it stands on a button or before a field; names of more than that are left alone. */
export function capitalized(text: string): string {
  return /^[a-z]+$/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text;
}
