import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url))

export default defineConfig({
  // Tests run from source, threads and jobs that they start from what test/compiled.ts makes of it; only package.*.ts use dist.
  resolve: {
    alias: [
      { find: /^lockstep$/, replacement: path('src/index.ts') },
      { find: /^\.{1,2}\/.*start-worker\.js$/, replacement: path('test/start-compiled-worker.ts') },
    ],
  },
  test: {
    include: ['test/**/*.test.ts'],
    // Whole jobs of many processes, for half a minute each: npm run test:slow.
    exclude: process.env.SLOW ? [] : ['test/**/*.slow.test.ts'],
    // Ranks are processes of their own: a test file more at once only makes two cores change context.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    pool: 'forks',
    globalSetup: ['./test/run-directory.ts', './test/compiled.ts'],
    // Empty: on. The launcher switches it off for its users' ranks, which would leave it behind.
    env: { TSX_DISABLE_CACHE: '' },
  },
})
