import type { ChangeKind, ComponentChange, ConfigurationVersion, Difference } from './model';
import { count } from './time';

export const SIGNS: Record<ChangeKind, string> = { added: '+', removed: '−', changed: '~' };

/** A table as configurations write it: `[builders.linux]`, `[notifiers."the team"]`. */
export function tableName({ section, name }: Pick<ComponentChange, 'section' | 'name'>): string {
  if (name === undefined) return `[${section}]`;
  return `[${section}.${/^[\w-]+$/.test(name) ? name : JSON.stringify(name)}]`;
}

/** In a few words: `2 builders added, 1 worker changed`. */
export function summary(difference: Difference): string {
  const counts = new Map<string, { change: ChangeKind; section: string; named: boolean; n: number }>();
  for (const { section, name, change } of difference.components) {
    const key = `${section} ${change}`;
    const known = counts.get(key) ?? { change, section, named: name !== undefined, n: 0 };
    counts.set(key, { ...known, n: known.n + 1 });
  }
  const words = [...counts.values()].map(({ change, section, named, n }) =>
    named ? `${count(n, section.replaceAll('-', ' ').replace(/s$/, ''))} ${change}` : `[${section}] ${change}`,
  );
  if (difference.more !== undefined && difference.more > 0) words.push(`${difference.more} more`);
  return words.length === 0 ? 'nothing differs' : words.join(', ');
}

/** Why a version came into force, in words. */
export function causeOf(version: Pick<ConfigurationVersion, 'cause' | 'restores'>): string {
  return version.cause === 'rollback' && version.restores !== null ? `rollback to ${version.restores}` : version.cause;
}

/** What a version changed, in a line. */
export function changeOf(version: ConfigurationVersion): string {
  if (version.difference !== null) return summary(version.difference);
  return version.number === 1 ? 'the first one' : 'not compared: the master was started with it';
}
