import { createHash } from 'node:crypto'
import { request as httpRequest } from 'node:http'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { WorkerVersion } from '../../sdk/model/function.ts'
import { BUNDLE_LIMITS, CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import { TOKEN } from '../harness/control-place.ts'
import {
  HELLO,
  openWranglerPlace,
  SCRIPTS,
  uploadForm,
  type WranglerPlace,
} from '../harness/wrangler-place.ts'

let place: WranglerPlace
beforeEach(async () => {
  place = await openWranglerPlace()
})
afterEach(() => place.close())

const put = (form: FormData, script = 'shop') =>
  place.call('PUT', `${SCRIPTS}/${script}?excludeScript=true&bindings_inherit=strict`, form)
const post = (form: FormData, script = 'shop') =>
  place.call('POST', `${SCRIPTS}/${script}/versions?bindings_inherit=strict`, form)
const startedLast = (): WorkerVersion => place.started.at(-1) as WorkerVersion
/** What is live or could be; blobs that nothing names are collected. */
const documents = () => [...place.store].filter(([key]) => !key.startsWith('blobs/')).map(([key]) => key)
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')

describe('an upload', () => {
  test('makes a function that serves, on no host until it is told one, and answers what wrangler reads', async () => {
    const { status, result } = await put(
      uploadForm({ bindings: [{ name: 'A', type: 'plain_text', text: 'a' }] }),
    )
    expect(status).toBe(200)
    expect(result).toMatchObject({ id: 'shop', has_modules: true, startup_time_ms: 12 })
    expect(result.deployment_id).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
    const record = place.registry.head.functions['shop']
    expect(record).toMatchObject({
      deployment: { shares: [{ versionId: result.deployment_id.replaceAll('-', ''), percent: 100 }] },
      routes: [],
      baseDomainHost: false,
      previewHosts: false,
      wrangler: { tag: expect.stringMatching(/^[0-9a-f]{32}$/) },
    })
    expect(startedLast().content).toEqual({
      kind: 'worker',
      mainModule: 'index.js',
      modules: [{ name: 'index.js', kind: 'esm', sha256: sha256(HELLO), sizeBytes: HELLO.length }],
      bindings: [{ type: 'text', name: 'A', text: 'a' }],
      compatibilityDate: '2026-11-01',
      compatibilityFlags: [],
      limits: {},
    })
  })

  test('carries modules of every kind by the names they are imported by; source maps are none that is loaded', async () => {
    const modules = [
      { name: 'index.js', body: HELLO },
      { name: './0ab1-greet.wasm', body: new Uint8Array([0, 97, 115, 109]), type: 'application/wasm' },
      { name: './lib/a.txt', body: 'text', type: 'text/plain' },
      { name: 'data.bin', body: new Uint8Array([255, 0, 10]), type: 'application/octet-stream' },
      { name: 'old.cjs', body: 'module.exports = 1', type: 'application/javascript' },
      { name: 'größe "ü".txt', body: 'x', type: 'text/plain' },
      { name: 'index.js.map', body: '{}', type: 'application/source-map' },
    ]
    await put(uploadForm({}, modules))
    expect(startedLast().content.modules.map(({ name, kind }) => `${kind} ${name}`)).toEqual([
      'wasm 0ab1-greet.wasm',
      'data data.bin',
      'text größe "ü".txt',
      'esm index.js',
      'sourcemap index.js.map',
      'text lib/a.txt',
      'cjs old.cjs',
    ])
    const data = startedLast().content.modules.find(({ name }) => name === 'data.bin')
    expect([...(await place.registry.getBlob(data?.sha256 ?? ''))]).toEqual([255, 0, 10])
  })

  test('may have its metadata anywhere, with keys nobody knows, and as a file', async () => {
    const first = await put(uploadForm({ package_dependencies: [{ name: 'x' }], anything: { at: ['all'] } }))
    const last = await put(uploadForm({}, undefined, { isMetadataLast: true }))
    const asFile = uploadForm({})
    asFile.set(
      'metadata',
      new File([asFile.get('metadata') as string], 'metadata.json', { type: 'application/json' }),
    )
    const file = await put(asFile)
    expect(first.status).toBe(200)
    expect([last.result.deployment_id, file.result.deployment_id]).toEqual([
      first.result.deployment_id,
      first.result.deployment_id,
    ])
  })

  test('ends in the same state by both paths', async () => {
    const meta = {
      bindings: [{ name: 'A', type: 'plain_text', text: 'a' }],
      tail_consumers: [{ service: 'watcher' }],
      limits: { cpu_ms: 50 },
      placement: { mode: 'smart' },
      annotations: { 'workers/message': 'second', 'workers/tag': 'v2' },
    }
    const settings = { tags: ['cf:env'], logpush: false, observability: { enabled: true } }
    for (const script of ['by-put', 'by-post']) await put(uploadForm({}), script)
    await put(uploadForm({ ...meta, ...settings }), 'by-put')
    const { result: version } = await post(uploadForm(meta), 'by-post')
    expect(version).toMatchObject({
      resources: { script: {}, script_runtime: { limits: { cpu_ms: 50 }, placement: { mode: 'smart' } } },
      startup_time_ms: 12,
      metadata: { has_preview: false },
    })
    expect(place.registry.head.functions['by-post']?.deployment.shares[0]?.versionId).not.toBe(
      version.id.replaceAll('-', ''),
    )
    await place.call('POST', `${SCRIPTS}/by-post/deployments`, {
      strategy: 'percentage',
      versions: [{ version_id: version.id, percentage: 100 }],
      annotations: { 'workers/message': 'second' },
    })
    await place.call('PATCH', `${SCRIPTS}/by-post/script-settings`, {
      ...settings,
      tail_consumers: meta.tail_consumers,
    })
    const stateOf = async (script: string) => {
      const record = place.registry.head.functions[script]
      const { result: deployments } = await place.call('GET', `${SCRIPTS}/${script}/deployments`)
      const { result: shown } = await place.call('GET', `${SCRIPTS}/${script}/settings`)
      const current = deployments.deployments[0].versions[0].version_id
      const { result: read } = await place.call('GET', `${SCRIPTS}/${script}/versions/${current}`)
      return {
        settings: shown,
        resources: { ...read.resources, script: undefined },
        annotations: read.annotations,
        kept: record?.wrangler?.settings,
        tags: record?.wrangler?.tags,
        message: record?.deployment.message,
        hosts: [record?.baseDomainHost, record?.previewHosts, record?.routes],
      }
    }
    expect(await stateOf('by-post')).toEqual(await stateOf('by-put'))
  })

  test('of service-worker format has its script as the body part', async () => {
    const code = 'addEventListener("fetch", (event) => event.respondWith(new Response("old")))'
    const main = { name: 'index.js', body: code, type: 'application/javascript' }
    const wasm = { name: './mod.wasm', body: new Uint8Array([0, 97, 115, 109]), type: 'application/wasm' }
    const bindings = [{ name: 'MOD', type: 'wasm_module', part: './mod.wasm' }]
    const { status, errors } = await put(uploadForm({ body_part: 'index.js', bindings }, [main, wasm]))
    expect([status, errors]).toEqual([200, []])
    expect(startedLast().content).toMatchObject({
      mainModule: 'index.js',
      format: 'service-worker',
      bindings: [{ type: 'module', name: 'MOD', module: 'mod.wasm' }],
    })
  })

  test('of a draft, without a compatibility date and with a main module of no extension, is deployed', async () => {
    const form = new FormData()
    form.set('metadata', JSON.stringify({ main_module: 'shop', bindings: [], logpush: false }))
    form.set('shop', new File([HELLO], 'shop', { type: 'application/javascript+module' }), 'shop')
    expect((await place.call('PUT', `${SCRIPTS}/shop`, form)).status).toBe(200)
    expect(startedLast().content).toMatchObject({ mainModule: 'shop', compatibilityDate: '2021-11-02' })
  })

  test('keeps secrets that keep_bindings names and inherits by name, and nothing else', async () => {
    const bindings = [
      { name: 'KEY', type: 'secret_text', text: 'open sesame' },
      { name: 'OLD', type: 'plain_text', text: 'old' },
      { name: 'SAME', type: 'json', json: { deep: [1] } },
    ]
    await put(uploadForm({ bindings }))
    await post(uploadForm({ bindings: [{ name: 'SAME', type: 'inherit' }], keep_bindings: ['secret_text'] }))
    expect(startedLast().content.bindings).toEqual([
      { type: 'secret', name: 'KEY', sealed: expect.any(String) },
      { type: 'json', name: 'SAME', json: { deep: [1] } },
    ])
    const [key] = startedLast().content.bindings
    const sealed = key?.type === 'secret' ? key.sealed : ''
    expect(place.secrets.open({ functionName: 'shop', name: 'KEY', sealed })).toBe('open sesame')
    expect([...place.store.values()].some(({ body }) => Buffer.from(body).includes('open sesame'))).toBe(
      false,
    )
    const unknown = await post(uploadForm({ bindings: [{ name: 'NONE', type: 'inherit' }] }))
    expect(unknown).toMatchObject({
      status: 400,
      errors: [{ code: 10057, message: expect.stringMatching(/^inherit binding 'NONE' is invalid/) }],
    })
  })

  test('resolves what it keeps again where a secret came while it was started', async () => {
    await put(uploadForm({}))
    let raced = false
    place.node.trialStart = async (version) => {
      if (raced || version.content.bindings.length > 0) return
      raced = true
      await place.call('PUT', `${SCRIPTS}/shop/secrets`, { name: 'LATE', text: 'late', type: 'secret_text' })
    }
    const form = uploadForm({ keep_bindings: ['secret_text'] }, [{ name: 'index.js', body: `${HELLO} // 2` }])
    expect((await put(form)).status).toBe(200)
    expect(raced).toBe(true)
    const id = place.registry.head.functions['shop']?.deployment.shares[0]?.versionId ?? ''
    const live = await place.registry.getVersion('shop', id)
    expect(live?.content.bindings).toMatchObject([{ type: 'secret', name: 'LATE' }])
  })

  test('of two at once both are versions, one of them serves, and every reader says which', async () => {
    const code = (n: number): FormData => uploadForm({}, [{ name: 'index.js', body: `${HELLO} // ${n}` }])
    const answers = await Promise.all([1, 2, 3, 4].map((n) => put(code(n))))
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200])
    const live = place.registry.head.functions['shop']?.deployment.shares[0]?.versionId
    const { result: listed } = await place.call('GET', `${SCRIPTS}/shop/deployments`)
    const { result: versions } = await place.call('GET', `${SCRIPTS}/shop/versions`)
    expect(listed.deployments[0].versions[0].version_id.replaceAll('-', '')).toBe(live)
    expect(listed.deployments).toHaveLength(4)
    expect(new Set(versions.items.map(({ id }: { id: string }) => id))).toEqual(
      new Set(answers.map(({ result }) => result.deployment_id)),
    )
  })
})

describe('an upload is refused, and nothing of the fleet is changed,', () => {
  const refused = async (
    form: FormData | { body: string | Uint8Array; type: string },
    expected: { status: number; code: number; message: RegExp },
  ): Promise<void> => {
    const before = documents()
    const answer =
      form instanceof FormData
        ? await put(form)
        : await place.call('PUT', `${SCRIPTS}/shop`, form.body, { headers: { 'content-type': form.type } })
    expect(answer).toMatchObject({
      status: expected.status,
      success: false,
      errors: [{ code: expected.code, message: expect.stringMatching(expected.message) }],
    })
    expect(documents()).toEqual(before)
    expect(place.registry.head.generation).toBe(0)
    expect(place.faults).toEqual([])
  }

  test('where the body is no form, has no boundary, or ends early', async () => {
    await refused(
      { body: '{}', type: 'application/json' },
      { status: 400, code: 10001, message: /not a form/ },
    )
    await refused(
      { body: 'x', type: 'multipart/form-data' },
      { status: 400, code: 10001, message: /boundary/i },
    )
    const part = '--b\r\ncontent-disposition: form-data; name="metadata"\r\n\r\n{'
    const type = 'multipart/form-data; boundary=b'
    await refused({ body: part, type }, { status: 400, code: 10001, message: /broken.*send it again/ })
    await refused({ body: '', type }, { status: 400, code: 10001, message: /broken|no part "metadata"/ })
  })

  test('where the metadata is missing, no JSON, nested without end, or of wrong fields', async () => {
    const bare = new FormData()
    bare.set('index.js', new File([HELLO], 'index.js', { type: 'application/javascript+module' }))
    await refused(bare, { status: 400, code: 10001, message: /no part "metadata"/ })
    const withText = (text: string): FormData => {
      const form = uploadForm({})
      form.set('metadata', text)
      return form
    }
    await refused(withText('{"main_module":'), { status: 400, code: 10001, message: /"metadata".*line 1/ })
    await refused(withText('['.repeat(100_000)), { status: 400, code: 10001, message: /deeper than/ })
    await refused(uploadForm({ compatibility_flags: 'nodejs_compat' }), {
      status: 400,
      code: 10021,
      message: /"compatibility_flags": .*expected array/,
    })
    await refused(uploadForm({ main_module: undefined, body_part: undefined }), {
      status: 400,
      code: 10021,
      message: /neither "main_module" nor "body_part"/,
    })
  })

  test('where parts have no or the same name, no file name, or a type that cannot be loaded', async () => {
    const twice = uploadForm({})
    twice.append('index.js', new File(['1'], 'index.js', { type: 'text/plain' }), 'index.js')
    await refused(twice, { status: 400, code: 10001, message: /"index\.js" is there twice/ })
    const field = uploadForm({})
    field.set('settings', 'x')
    await refused(field, { status: 400, code: 10001, message: /"settings" has no file name/ })
    await refused(uploadForm({}, [{ name: 'main.py', body: 'x', type: 'text/x-python' }]), {
      status: 400,
      code: 10021,
      message: /"main\.py" is Python/,
    })
    await refused(uploadForm({ main_module: 'other.js' }), {
      status: 400,
      code: 10021,
      message: /main module "other\.js" is not among/,
    })
    await refused(uploadForm({}, [{ name: '../../etc/passwd', body: 'x' }]), {
      status: 400,
      code: 10021,
      message: /segment "\.\."/,
    })
  })

  test('with bindings that isola does not have, all of them named at once', async () => {
    const bindings = [
      { name: 'CACHE', type: 'kv_namespace', namespace_id: '1' },
      { name: 'DB', type: 'd1', id: '2' },
      { name: 'ODD', type: 'from_the_future' },
    ]
    await refused(uploadForm({ bindings }), {
      status: 400,
      code: 10021,
      message: /"CACHE".*"kv_namespace"[^]*"DB".*"d1"[^]*"ODD"/,
    })
  })

  test('with Durable Object migrations, declared exports, containers, or a preview alias', async () => {
    await refused(uploadForm({ annotations: { 'workers/alias': 'beta' } }), {
      status: 400,
      code: 10021,
      message: /preview alias "beta"/,
    })
    await refused(uploadForm({ migrations: { new_tag: 'v1', steps: [] } }), {
      status: 400,
      code: 10021,
      message: /"migrations" asks for Durable Objects/,
    })
    await refused(uploadForm({ exports: { Room: { type: 'durable-object' }, Plain: { type: 'worker' } } }), {
      status: 400,
      code: 10021,
      message: /^"exports\.Room" is of type "durable-object"[^"]*$/,
    })
    await refused(uploadForm({ containers: [{ class_name: 'Box' }] }), {
      status: 400,
      code: 10021,
      message: /"containers"/,
    })
  })

  test('with a service binding to what is not deployed, by a code that is not "no such Worker"', async () => {
    const bindings = [{ name: 'API', type: 'service', service: 'nobody' }]
    await refused(uploadForm({ bindings }), { status: 400, code: 10143, message: /"API".*"nobody"/ })
  })

  test('with the message and frames of a version that does not start', async () => {
    place.node.trialStart = async () => {
      const cause = new IsolaError(
        'start_failed',
        'function "shop" did not start: ReferenceError: x is not defined\n    at index.js:5:3',
      )
      throw new IsolaError('version_refused', `the version does not start: ${cause.message}`, { cause })
    }
    await refused(uploadForm({}), {
      status: 400,
      code: 10021,
      message: /^Uncaught ReferenceError: x is not defined\n {2}at index\.js:5:3\n$/,
    })
  })

  test('with a name that cannot be a host', async () => {
    const answer = await put(uploadForm({}), 'My_Worker')
    expect(answer).toMatchObject({
      status: 400,
      errors: [{ code: 10021, message: expect.stringContaining('"My_Worker"') }],
    })
  })

  test('above the bounds of metadata and of modules; the client hears it though it is still sending', async () => {
    const form = uploadForm({})
    form.set('metadata', JSON.stringify({ padding: 'x'.repeat(CONTROL_LIMITS.jsonBytesMax) }))
    await refused(form, { status: 413, code: 10027, message: /"metadata" has more than/ })
    const half = new Uint8Array(BUNDLE_LIMITS.modulesBytesMax / 2 + 1)
    const modules = ['a.bin', 'b.bin'].map((name) => ({ name, body: half, type: 'application/octet-stream' }))
    await refused(uploadForm({ main_module: 'a.bin' }, modules), {
      status: 413,
      code: 10027,
      message: /modules have more than/,
    })
  })

  test('with more parts than a version has modules', async () => {
    const part = (n: number): string =>
      `--b\r\ncontent-disposition: form-data; name="m${n}"; filename="m${n}"\r\ncontent-type: text/plain\r\n\r\n\r\n`
    const parts = Array.from({ length: BUNDLE_LIMITS.modulesCountMax + 2 }, (_, n) => part(n))
    await refused(
      { body: `${parts.join('')}--b--\r\n`, type: 'multipart/form-data; boundary=b' },
      { status: 413, code: 10027, message: /more than 10000 modules/ },
    )
  })

  test('where its client dies in the middle', async () => {
    const target = new URL(`${place.url}${SCRIPTS}/shop`)
    const type = 'multipart/form-data; boundary=b'
    const request = httpRequest(target, {
      method: 'PUT',
      headers: { authorization: `Bearer ${TOKEN}`, 'content-type': type, 'content-length': 1_000_000 },
    })
    request.on('error', () => undefined)
    const stored = Promise.withResolvers<void>()
    const putBlob = place.registry.putBlob.bind(place.registry)
    place.registry.putBlob = async (...blob) => {
      await putBlob(...blob)
      stored.resolve()
    }
    const head = 'content-disposition: form-data; name="index.js"; filename="index.js"'
    request.write(`--b\r\n${head}\r\ncontent-type: application/javascript+module\r\n\r\n${HELLO}\r\n--b\r\n`)
    await stored.promise
    const before = documents()
    request.destroy()
    expect((await put(uploadForm({}), 'other')).status).toBe(200)
    expect(documents().filter((key) => !before.includes(key) && key.includes('shop'))).toEqual([])
    expect(place.registry.head.functions['shop']).toBeUndefined()
    expect(place.faults).toEqual([])
  })

  test('as a version of a script that there is not', async () => {
    const answer = await post(uploadForm({}))
    expect(answer).toMatchObject({ status: 404, errors: [{ code: 10007 }] })
  })
})
