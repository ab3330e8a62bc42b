import { describe, expect, test } from 'vitest'
import type { IsolaError } from '../../sdk/model/errors.ts'
import { loadConfig } from '../../wrangler-compat/config/load.ts'
import { configJsonSchema, configSchema } from '../../wrangler-compat/config/schema.ts'
import { failureOf, temporaryProject } from '../bundler/temporary-project.ts'

const BASE = { name: 'shop', main: 'index.ts', compatibility_date: '2026-01-01' }

function failure(fields: object): Promise<IsolaError> {
  const text = JSON.stringify({ ...BASE, ...fields }, null, 2)
  return failureOf(loadConfig({ directory: temporaryProject({ 'index.ts': '', 'wrangler.jsonc': text }) }))
}

describe('fields that isola cannot honour', () => {
  const entry = { binding: 'B' }
  const BINDINGS: [string, unknown, string][] = [
    ['agent_memory', [entry], 'binding "B"'],
    ['ai', entry, 'binding "B"'],
    ['ai_search', [entry], 'binding "B"'],
    ['ai_search_namespaces', [entry], 'binding "B"'],
    ['analytics_engine_datasets', [entry], 'binding "B"'],
    ['artifacts', [entry], 'binding "B"'],
    ['browser', entry, 'binding "B"'],
    ['cloudchamber', { image: 'x' }, '"image"'],
    ['compliance_region', 'fedramp_high', ''],
    ['containers', [{ class_name: 'C', image: 'x' }], 'class_name "C"'],
    ['d1_databases', [entry], 'binding "B"'],
    ['data_blobs', { B: 'b.bin' }, '"B"'],
    ['durable_objects', { bindings: [{ name: 'B', class_name: 'C' }] }, 'binding "B"'],
    ['exports', { C: { type: 'worker' } }, '"C"'],
    ['flagship', [entry], 'binding "B"'],
    ['hyperdrive', [entry], 'binding "B"'],
    ['images', entry, 'binding "B"'],
    ['kv_namespaces', [entry], 'binding "B"'],
    ['legacy_env', false, ''],
    ['logfwdr', { bindings: [{ name: 'B' }] }, 'binding "B"'],
    ['media', entry, 'binding "B"'],
    ['migrations', [{ tag: 'v1', new_classes: ['C'] }], 'tag "v1"'],
    ['mtls_certificates', [entry], 'binding "B"'],
    ['node_compat', true, 'nodejs_compat'],
    ['pages_build_output_dir', './dist', './dist'],
    ['pipelines', [entry], 'binding "B"'],
    ['python_modules', { exclude: ['x'] }, '"x"'],
    ['queues', { producers: [entry], consumers: [] }, 'binding "B"'],
    ['queues', { consumers: [{ queue: 'q' }] }, 'queue "q"'],
    ['r2_buckets', [entry], 'binding "B"'],
    ['secrets_store_secrets', [entry], 'binding "B"'],
    ['send_email', [{ name: 'B' }], 'binding "B"'],
    ['site', { bucket: './public' }, './public'],
    ['stream', entry, 'binding "B"'],
    ['streaming_tail_consumers', [{ service: 's' }], 'service "s"'],
    ['tail_consumers', [{ service: 's' }], 'service "s"'],
    ['text_blobs', { B: 'b.txt' }, '"B"'],
    ['triggers', { crons: ['* * * * *'] }, '* * * * *'],
    ['unsafe', { bindings: [{ name: 'B', type: 't' }] }, 'binding "B"'],
    ['unsafe_hello_world', [entry], 'binding "B"'],
    ['vectorize', [entry], 'binding "B"'],
    ['vpc_networks', [entry], 'binding "B"'],
    ['vpc_services', [entry], 'binding "B"'],
    ['wasm_modules', { B: 'b.wasm' }, '"B"'],
    ['worker_loaders', [entry], 'binding "B"'],
    ['workflows', [{ ...entry, name: 'w' }], 'binding "B"'],
    ['compatibility_flags', ['python_workers'], 'python_workers'],
  ]

  test.each(BINDINGS)('%s %j is refused by name, with what to do', async (field, value, named) => {
    const error = await failure({ [field]: value })
    expect(error.code).toBe('config_unsupported')
    expect(error.message).toContain(field === 'compatibility_flags' ? named : `"${field}"`)
    expect(error.message).toContain(named)
    expect(error.message).toMatch(/: [^:]*(remove|import|fetch|write|read|leave|call|add)/)
    expect(error.message).toMatch(/^wrangler\.jsonc:[5-9]:\d+: /)
  })

  test('the same fields without entries ask for nothing', async () => {
    const empty: Record<string, unknown> = {}
    for (const [field, value] of BINDINGS) {
      if (typeof value !== 'object' || field === 'compatibility_flags') continue
      empty[field] = Array.isArray(value) ? [] : {}
    }
    Object.assign(empty, {
      durable_objects: { bindings: [] },
      queues: { producers: [], consumers: [] },
      triggers: { crons: [] },
    })
    const directory = temporaryProject({
      'index.ts': '',
      'wrangler.json': JSON.stringify({ ...BASE, ...empty }),
    })
    expect((await loadConfig({ directory })).warnings).toEqual([])
  })

  const HARMLESS: [string, unknown][] = [
    ['account_id', 'x'],
    ['cache', { enabled: true }],
    ['dev', { port: 8000 }],
    ['first_party_worker', true],
    ['keep_vars', true],
    ['legacy_env', true],
    ['limits', { subrequests: 5 }],
    ['logpush', true],
    ['observability', { enabled: false }],
    ['placement', { mode: 'smart' }],
    ['previews', { vars: {} }],
    ['secrets', { required: ['S'] }],
    ['send_metrics', false],
    ['usage_model', 'bundled'],
    ['zone_id', 'x'],
    ['zone_name', 'x'],
    ['build', { cwd: 'x' }],
  ]

  test.each(HARMLESS)('%s %j is a warning with its line', async (field, value) => {
    const text = JSON.stringify({ ...BASE, [field]: value }, null, 2)
    const directory = temporaryProject({ 'index.ts': '', 'wrangler.jsonc': text })
    const { warnings } = await loadConfig({ directory })
    expect(warnings).toHaveLength(1)
    expect(warnings[0]).toMatch(new RegExp(`^wrangler\\.jsonc:[56]: "${field}.*" has no effect`))
  })

  test('what only a bundler does is a warning without one', async () => {
    const text = JSON.stringify({ ...BASE, no_bundle: true, minify: true, alias: { a: 'b' } })
    const directory = temporaryProject({ 'index.ts': '', 'wrangler.jsonc': text })
    const { warnings } = await loadConfig({ directory })
    expect(warnings.map((warning) => /"(\w+)" has no effect with "no_bundle"/.exec(warning)?.[1])).toEqual([
      'minify',
      'alias',
    ])
  })

  test('every field of the schema is honoured, refused or warned about', async () => {
    const honoured = new Set(
      (
        '$schema env name main compatibility_date compatibility_flags route routes workers_dev preview_urls limits no_bundle ' +
        'find_additional_modules base_dir preserve_file_names rules minify keep_names tsconfig jsx_factory jsx_fragment ' +
        'upload_source_maps build vars services define alias assets ratelimits version_metadata dispatch_namespaces'
      ).split(' '),
    )
    const told = new Set([...BINDINGS, ...HARMLESS].map(([field]) => field))
    const silent = Object.keys(configSchema.shape).filter((field) => !honoured.has(field) && !told.has(field))
    expect(silent).toEqual([])
  })
})

describe('the schema', () => {
  test('is also a JSON Schema that knows every field and no other', () => {
    const schema = configJsonSchema() as {
      properties: Record<string, unknown>
      additionalProperties: unknown
    }
    expect(Object.keys(schema.properties).toSorted()).toEqual(Object.keys(configSchema.shape).toSorted())
    expect(schema.additionalProperties).toBe(false)
  })
})
