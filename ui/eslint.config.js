import js from '@eslint/js';
import svelte from 'eslint-plugin-svelte';
import globals from 'globals';
import ts from 'typescript-eslint';

export default ts.config(
  { ignores: ['dist/', 'node_modules/', 'screenshots/'] },
  js.configs.recommended,
  ...ts.configs.recommended,
  ...svelte.configs.recommended,
  {
    languageOptions: { globals: { ...globals.browser, ...globals.node } },
    rules: {
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
    },
  },
  {
    files: ['**/*.svelte', '**/*.svelte.ts'],
    languageOptions: { parserOptions: { parser: ts.parser, extraFileExtensions: ['.svelte'] } },
    rules: {
      // Texts come from builds and users: never as HTML.
      'svelte/no-at-html-tags': 'error',
      // The policy forbids style attributes; dynamic sizes go through `style:` directives.
      'no-restricted-syntax': [
        'error',
        { selector: 'SvelteAttribute[key.name="style"]', message: 'Use a style: directive or a class.' },
      ],
      // Maps here are bookkeeping behind version counters, not reactive state.
      'svelte/prefer-svelte-reactivity': 'off',
      // The router is our own.
      'svelte/no-navigation-without-resolve': 'off',
    },
  },
);
