import { test } from 'vitest'
import { installWrangler } from './wrangler.ts'

// Before any test, and with no test's timeout: the first time it takes half a minute.
const isInstalled = await installWrangler().then(
  () => true,
  (error: unknown) => {
    console.error('wrangler could not be installed:', error)
    return false
  },
)

/** A test that needs wrangler: skipped by name where it cannot be installed, but in CI, where it fails then. */
export const wranglerTest = isInstalled || process.env['CI'] !== undefined ? test : test.skip
