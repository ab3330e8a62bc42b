import { defineConfig } from 'vitest/config'

// Tests start real processes (workerd, routers, whole nodes) on a machine that may have two cores:
// few files at a time, and generous limits that only a hang can reach.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/fixtures/**', 'test/bench/**', 'node_modules/**'],
    pool: 'forks',
    maxWorkers: 2,
    // A shared machine stalls whole processes for seconds now and then: what fails twice in a row has failed.
    retry: 1,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
})
