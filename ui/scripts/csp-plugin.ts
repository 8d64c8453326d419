import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Plugin } from 'vite';

/**
 * Writes `dist/csp.json`: the hashes of the inline scripts of index.html, for the server's
 * Content-Security-Policy. The page has exactly one, which sets the theme before the first paint.
 */
export function contentSecurityPolicy(): Plugin {
  let outDir = 'dist';
  return {
    name: 'greenroom-csp',
    apply: 'build',
    configResolved(config) {
      outDir = join(config.root, config.build.outDir);
    },
    async closeBundle() {
      const html = await readFile(join(outDir, 'index.html'), 'utf8');
      const hashes = inlineScripts(html).map(
        (body) => `'sha256-${createHash('sha256').update(body).digest('base64')}'`,
      );
      const policy = [
        "default-src 'none'",
        `script-src 'self' ${hashes.join(' ')}`,
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
      ].join('; ');
      await writeFile(join(outDir, 'csp.json'), `${JSON.stringify({ 'script-src': hashes, policy }, null, 2)}\n`);
    },
  };
}

/** The bodies of the script elements without a `src`. */
export function inlineScripts(html: string): string[] {
  return [...html.matchAll(/<script(?![^>]*\ssrc=)[^>]*>([\s\S]*?)<\/script>/g)].map((match) => match[1] ?? '');
}
