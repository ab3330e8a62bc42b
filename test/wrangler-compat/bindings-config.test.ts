import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { loadConfig, type LoadedConfig } from '../../wrangler-compat/config/load.ts'

function load(fields: object): Promise<LoadedConfig> {
  const directory = mkdtempSync(join(tmpdir(), 'isola-config-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  writeFileSync(join(directory, 'index.ts'), 'export default { fetch: () => new Response() }')
  const config = { name: 'shop', main: 'index.ts', compatibility_date: '2026-10-01', ...fields }
  writeFileSync(join(directory, 'wrangler.json'), JSON.stringify(config))
  return loadConfig({ directory })
}

test('rate limits, version metadata and dispatch namespaces of a configuration are bindings', async () => {
  const { bindings } = await load({
    vars: { A: 'text' },
    version_metadata: { binding: 'META' },
    ratelimits: [{ name: 'LIMIT', namespace_id: 1001, simple: { limit: 5, period: 10 } }],
    dispatch_namespaces: [{ binding: 'USERS', namespace: 'users' }],
  })
  expect(bindings).toEqual([
    { type: 'text', name: 'A', text: 'text' },
    { type: 'version-metadata', name: 'META' },
    { type: 'rate-limit', name: 'LIMIT', namespaceId: '1001', limit: 5, periodS: 10 },
    { type: 'dispatch', name: 'USERS', namespace: 'users' },
  ])
})

test('what is wrong with them is said with its place, all at once', async () => {
  const error = await load({
    vars: { META: 'text' },
    version_metadata: { binding: 'META' },
    ratelimits: [{ name: 'LIMIT', namespace_id: '1', simple: { limit: 5, period: 30 } }, 'x'],
    dispatch_namespaces: [{ binding: 'USERS', namespace: 'users', outbound: { service: 'out' } }],
  }).then(
    () => undefined,
    (failure: Error) => failure,
  )
  expect(error?.message).toContain('binding "META" is there twice')
  expect(error?.message).toContain(
    'binding "LIMIT" of type "ratelimit" has a wrong "simple.period" (expected 10 or 60)',
  )
  expect(error?.message).toContain('binding 0 has no "name" and "type"')
  expect(error?.message).toContain('outbound Worker, which isola does not have yet')
})

test('secrets that a configuration requires are a word of warning and no binding', async () => {
  const { bindings, warnings } = await load({ secrets: { required: ['KEY'] } })
  expect(bindings).toEqual([])
  expect(warnings.join()).toContain('"secrets" has no effect')
})
