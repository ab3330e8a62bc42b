import { describe, expect, test } from 'vitest'
import type { ModuleKind } from '../../sdk/model/bundle.ts'
import type { Binding } from '../../sdk/model/function.ts'
import type { BindingContext } from '../../wrangler-compat/bindings/binding-type.ts'
import { readBindings, refusalText } from '../../wrangler-compat/bindings/read-bindings.ts'
import { showBinding } from '../../wrangler-compat/bindings/show-binding.ts'

const MODULES = new Map<string, ModuleKind>([
  ['abc-add.wasm', 'wasm'],
  ['WORDS', 'text'],
  ['BYTES', 'data'],
])
const CONTEXT: BindingContext = {
  previous: [],
  keep: [],
  modules: MODULES,
  hasAssets: true,
  seal: ({ name, text }) => `v1.${name}-${text.length}`,
}

function read(uploads: unknown, context: Partial<BindingContext> = {}): readonly Binding[] {
  const reading = readBindings(uploads, { ...CONTEXT, ...context })
  if ('refusals' in reading) throw new Error(refusalText(reading.refusals))
  return reading.bindings
}

function refusals(uploads: unknown, context: Partial<BindingContext> = {}): readonly string[] {
  const reading = readBindings(uploads, { ...CONTEXT, ...context })
  return 'refusals' in reading ? reading.refusals.map(({ refused }) => refused) : []
}

const SUPPORTED: [upload: Record<string, unknown>, binding: Binding][] = [
  [
    { type: 'plain_text', text: 'x' },
    { type: 'text', name: 'B', text: 'x' },
  ],
  [
    { type: 'json', json: { a: [1, null] } },
    { type: 'json', name: 'B', json: { a: [1, null] } },
  ],
  [
    { type: 'service', service: 'cart' },
    { type: 'service', name: 'B', functionName: 'cart' },
  ],
  [
    { type: 'service', service: 'cart', entrypoint: 'Admin', props: { x: 1 } },
    { type: 'service', name: 'B', functionName: 'cart', entrypoint: 'Admin', props: { x: 1 } },
  ],
  [{ type: 'version_metadata' }, { type: 'version-metadata', name: 'B' }],
  [
    { type: 'ratelimit', namespace_id: '1001', simple: { limit: 100, period: 60 } },
    { type: 'rate-limit', name: 'B', namespaceId: '1001', limit: 100, periodS: 60 },
  ],
  [{ type: 'assets' }, { type: 'assets', name: 'B' }],
  [
    { type: 'dispatch_namespace', namespace: 'ns' },
    { type: 'dispatch', name: 'B', namespace: 'ns' },
  ],
  [
    { type: 'wasm_module', part: 'abc-add.wasm' },
    { type: 'module', name: 'B', module: 'abc-add.wasm' },
  ],
  [
    { type: 'text_blob', part: 'WORDS' },
    { type: 'module', name: 'B', module: 'WORDS' },
  ],
  [
    { type: 'data_blob', part: 'BYTES' },
    { type: 'module', name: 'B', module: 'BYTES' },
  ],
]

describe('bindings of an upload', () => {
  test.each(SUPPORTED)('%j is read, and shown as it was sent', (upload, binding) => {
    expect(read([{ name: 'B', ...upload }])).toEqual([binding])
    expect(showBinding(binding, MODULES)).toMatchObject({ name: 'B', ...upload })
  })

  test('a secret is closed when it is read, and its text is never shown', () => {
    const [binding] = read([{ name: 'KEY', type: 'secret_text', text: 'open sesame' }])
    expect(binding).toEqual({ type: 'secret', name: 'KEY', sealed: 'v1.KEY-11' })
    expect(showBinding(binding!, MODULES)).toEqual({ name: 'KEY', type: 'secret_text' })
  })

  test('no bindings, absent or null, are none; a part may be named with "./"', () => {
    expect([read(undefined), read(null), read([])]).toEqual([[], [], []])
    expect(read([{ name: 'B', type: 'wasm_module', part: './abc-add.wasm' }])).toMatchObject([
      { module: 'abc-add.wasm' },
    ])
  })

  const STATE = [
    'kv_namespace',
    'r2_bucket',
    'd1',
    'durable_object_namespace',
    'queue',
    'workflow',
    'browser',
    'ai',
    'images',
    'media',
    'stream',
    'worker_loader',
    'analytics',
    'hyperdrive',
    'analytics_engine',
    'vectorize',
    'mtls_certificate',
    'send_email',
    'secrets_store_secret',
    'pipelines',
    'vpc_service',
    'vpc_network',
    'logfwdr',
    'ai_search_namespace',
    'agent_memory',
    'artifacts',
    'ai_search',
    'flagship',
    'k2',
    'unsafe_hello_world',
    'secret_key',
  ]

  test.each(STATE)('one of type %s is refused by name and type, with what to do', (type) => {
    const [message] = refusals([{ name: 'MINE', type }])
    expect(message).toContain(`binding "MINE" of type "${type}" needs `)
    expect(message).toContain('which isola does not have yet: remove it')
  })

  test('all problems of an upload come in one answer, and nothing of it is taken', () => {
    const uploads = [
      { name: 'A', type: 'plain_text', text: 'x' },
      { name: 'KV', type: 'kv_namespace', namespace_id: '1' },
      { name: 'ODD', type: 'constructor' },
      { name: 'A', type: 'plain_text', text: 'y' },
      { type: 'plain_text', text: 'nameless' },
      null,
      { name: 'T', type: 'plain_text', text: 5 },
      { name: 'R', type: 'ratelimit', namespace_id: '1', simple: { limit: 0, period: 60 } },
      { name: 'S', type: 'service', service: 'No_Such' },
      { name: 'E', type: 'service', service: 'cart', environment: 'staging' },
      { name: 'D', type: 'dispatch_namespace', namespace: 'ns', outbound: { worker: { service: 'x' } } },
      { name: 'W', type: 'wasm_module', part: 'missing.wasm' },
      { name: 'X', type: 'text_blob', part: 'BYTES' },
      { name: 'L', type: 'secret_text', text: 'x'.repeat(200_000) },
    ]
    const found = refusals(uploads)
    expect(found).toHaveLength(uploads.length - 1)
    for (const [index, words] of [
      'needs KV namespaces',
      'of no type that isola knows',
      'is there twice',
      'binding 4 has no "name"',
      'binding 5 has no "name"',
      'wrong "text"',
      'wrong "simple.limit"',
      'No_Such',
      'the environment "staging"',
      'outbound Worker',
      'which the upload does not have',
      'which is of kind "data"',
      '200000 bytes',
    ].entries()) {
      expect(found[index]).toContain(words)
    }
    expect(refusals('nonsense')).toEqual(['"bindings" is not a list: send an array'])
    expect(refusals([{ name: 'A', type: 'assets' }], { hasAssets: false })[0]).toContain('has no assets')
  })
})

describe('bindings of the version before', () => {
  const previous: Binding[] = [
    { type: 'secret', name: 'KEY', sealed: 'v1.old' },
    { type: 'text', name: 'TEXT', text: 'old' },
    { type: 'json', name: 'DATA', json: 1 },
    { type: 'module', name: 'ADD', module: 'gone.wasm' },
    { type: 'assets', name: 'FILES' },
    { type: 'service', name: 'CART', functionName: 'cart' },
  ]

  test('those of kept types stay unless the upload has their names', () => {
    const keep = ['secret_text', 'secret_key']
    expect(
      read([{ name: 'A', type: 'plain_text', text: 'x' }], { previous, keep }).map(({ name }) => name),
    ).toEqual(['A', 'KEY'])
    expect(read([{ name: 'KEY', type: 'plain_text', text: 'x' }], { previous, keep })).toEqual([
      { type: 'text', name: 'KEY', text: 'x' },
    ])
    const all = ['plain_text', 'json', ...keep, 'assets', 'wasm_module']
    expect(read([], { previous, keep: all, hasAssets: false }).map(({ name }) => name)).toEqual([
      'KEY',
      'TEXT',
      'DATA',
    ])
    expect(read([], { previous })).toEqual([])
  })

  test('an inherited one is that of the same name, of whatever type', () => {
    const uploads = ['KEY', 'CART', 'FILES'].map((name) => ({ name, type: 'inherit' }))
    expect(read(uploads, { previous })).toEqual([previous[0], previous[5], previous[4]])
  })

  test('what cannot be inherited is told from all else, as the API has a code for it', () => {
    for (const [upload, context] of [
      [{ name: 'NONE' }, { previous }],
      [{ name: 'KEY' }, {}],
      [{ name: 'ADD' }, { previous }],
      [{ name: 'FILES' }, { previous, hasAssets: false }],
      [{ name: 'NEW', old_name: 'KEY' }, { previous }],
    ] as const) {
      const reading = readBindings([{ type: 'inherit', ...upload }], { ...CONTEXT, ...context })
      expect(reading).toEqual({
        refusals: [
          {
            isInherit: true,
            refused: expect.stringContaining(`inherit binding '${upload.name}' is invalid`),
          },
        ],
      })
    }
  })
})
