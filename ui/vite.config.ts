import { svelte } from '@sveltejs/vite-plugin-svelte';
import { svelteTesting } from '@testing-library/svelte/vite';
import { defineConfig } from 'vitest/config';
import { contentSecurityPolicy } from './scripts/csp-plugin.ts';

/** Where `npm run dev` finds a master (or `npm run fake`). */
const master = process.env.GREENROOM_MASTER ?? 'http://127.0.0.1:8010';

export default defineConfig({
  plugins: [svelte(), svelteTesting(), contentSecurityPolicy()],
  build: {
    target: 'es2022',
    cssCodeSplit: false,
    // Nothing is inlined as a data: URL, so that the policy needs only 'self'.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: {
    proxy: {
      '/api': master,
      '/config': master,
      '/ws': { target: master, ws: true },
    },
  },
  test: {
    environment: 'jsdom',
    include: ['tests/**/*.test.ts'],
    restoreMocks: true,
  },
});
