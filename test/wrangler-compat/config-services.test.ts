import { describe, expect, test } from 'vitest'
import { loadConfig, type LoadedConfig } from '../../wrangler-compat/config/load.ts'
import { temporaryProject } from '../bundler/temporary-project.ts'

const BASE = { name: 'shop', main: 'index.js', compatibility_date: '2026-01-01' }

function load(fields: object, environment?: string): Promise<LoadedConfig> {
  const directory = temporaryProject({
    'index.js': 'export default { fetch: () => new Response("ok") }\n',
    'wrangler.jsonc': JSON.stringify({ ...BASE, ...fields }),
  })
  return loadConfig({ directory, ...(environment !== undefined && { environment }) })
}

const failure = (loading: Promise<LoadedConfig>): Promise<{ code: string; message: string }> =>
  loading.then(
    () => expect.fail('was taken'),
    (error: { code: string; message: string }) => error,
  )

describe('"services" of a wrangler configuration', () => {
  test('become service bindings behind the variables, and each environment has its own', async () => {
    const fields = {
      vars: { A: 'x' },
      services: [{ binding: 'STOCK', service: 'stock', environment: '', remote: false }],
      env: { live: { services: [{ binding: 'STOCK', service: 'stock-live' }] }, bare: {} },
    }
    expect((await load(fields)).bindings).toEqual([
      { type: 'text', name: 'A', text: 'x' },
      { type: 'service', name: 'STOCK', functionName: 'stock' },
    ])
    expect((await load(fields, 'live')).bindings).toEqual([
      { type: 'service', name: 'STOCK', functionName: 'stock-live' },
    ])
    expect((await load(fields, 'bare')).bindings).toEqual([])
  })

  test('say which entrypoint they mean, and with what props', async () => {
    const services = [
      { binding: 'A', service: 's', entrypoint: 'Named', props: { role: 'admin' } },
      { binding: 'B', service: 's', entrypoint: 'default' },
    ]
    expect((await load({ services })).bindings).toEqual([
      { type: 'service', name: 'A', functionName: 's', entrypoint: 'Named', props: { role: 'admin' } },
      { type: 'service', name: 'B', functionName: 's' },
    ])
  })

  test.each([
    ['environment', 'live', 'each environment is a function of its own'],
    ['remote', true, 'remote'],
  ])('with "%s" are refused by that name', async (field, value, why) => {
    const { code, message } = await failure(
      load({ services: [{ binding: 'B', service: 's', [field]: value }] }),
    )
    expect(code).toBe('config_unsupported')
    expect(message).toContain(`services[0].${field}`)
    expect(message).toContain(why)
  })

  test.each([
    [{ services: [{ binding: 'B', service: 'No Name' }] }, 'function name "No Name"'],
    [{ vars: { B: '1' }, services: [{ binding: 'B', service: 's' }] }, 'binding "B" is there twice'],
    [{ services: [{ binding: 'B' }] }, 'services[0].service'],
    [{ services: [{ service: 's' }] }, 'services[0].binding'],
    [{ services: [{ binding: 'B', service: 's', servise: 's' }] }, 'servise'],
  ])('%j is refused', async (fields, why) => {
    const { code, message } = await failure(load(fields))
    expect(code).toBe('config_invalid')
    expect(message).toContain(why)
  })
})
