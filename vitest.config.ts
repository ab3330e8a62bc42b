import { defineConfig } from 'vitest/config'

// Tests start real processes (workerd, routers, whole nodes) on a machine that may have two cores:
// few files at a time, and generous limits that only a hang can reach.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/fixtures/**', 'test/bench/**', 'node_modules/**'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
})
