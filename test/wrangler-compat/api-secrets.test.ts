import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Binding } from '../../sdk/model/function.ts'
import { BUNDLE_LIMITS, WRANGLER_API_LIMITS } from '../../sdk/model/limits.ts'
import {
  HELLO,
  openWranglerPlace,
  SCRIPTS,
  uploadForm,
  WORKERS,
  type Answer,
  type WranglerPlace,
} from '../harness/wrangler-place.ts'

let place: WranglerPlace
beforeEach(async () => {
  place = await openWranglerPlace()
  await place.call(
    'PUT',
    `${SCRIPTS}/shop`,
    uploadForm({ bindings: [{ name: 'VAR', type: 'plain_text', text: 'v' }] }),
  )
})
afterEach(() => place.close())

const put = (name: string, text: string, script = 'shop'): Promise<Answer> =>
  place.call('PUT', `${SCRIPTS}/${script}/secrets`, { name, text, type: 'secret_text' })
const names = async (): Promise<string[]> =>
  (await place.call('GET', `${SCRIPTS}/shop/secrets`)).result.map(({ name }: { name: string }) => name)
const liveId = (): string => place.registry.head.functions['shop']?.deployment.shares[0]?.versionId ?? ''
const opened = async (id = liveId()): Promise<Record<string, string>> => {
  const version = await place.registry.getVersion('shop', id)
  const bindings: readonly Binding[] = version?.content.bindings ?? []
  return Object.fromEntries(
    bindings.flatMap((each) =>
      each.type === 'secret'
        ? [[each.name, place.secrets.open({ functionName: 'shop', name: each.name, sealed: each.sealed })]]
        : [],
    ),
  )
}

describe('a secret', () => {
  test('is put by a version that serves at once, is listed by name, and is nowhere in the open', async () => {
    const before = liveId()
    expect(await put('API_KEY', 'a very secret value')).toMatchObject({
      status: 200,
      result: { name: 'API_KEY', type: 'secret_text' },
    })
    expect(liveId()).not.toBe(before)
    expect(await opened()).toEqual({ API_KEY: 'a very secret value' })
    const listed = await place.call('GET', `${SCRIPTS}/shop/secrets`)
    expect(listed.result).toEqual([{ name: 'API_KEY', type: 'secret_text' }])
    const shown = await Promise.all(
      ['/settings', '/versions', '/secrets', '/secrets/API_KEY', '/deployments'].map((path) =>
        place.call('GET', `${SCRIPTS}/shop${path}`),
      ),
    )
    expect(JSON.stringify(shown)).not.toMatch(/very secret|sealed/)
    expect([...place.store.values()].some(({ body }) => Buffer.from(body).includes('very secret'))).toBe(
      false,
    )
    const { result } = await place.call('GET', `${SCRIPTS}/shop/versions`)
    expect(result.items[0].annotations).toMatchObject({ 'workers/triggered_by': 'secret' })
  })

  test('that is put again as it was makes no version', async () => {
    await put('KEY', 'same')
    const before = liveId()
    await put('KEY', 'same')
    expect(liveId()).toBe(before)
  })

  test('is deleted by its name, also where that is percent-encoded; one that is not there is refused', async () => {
    await put('a/b', 'x').then(({ status }) => expect(status).toBe(400))
    await put('A.B', 'x')
    const path = `${SCRIPTS}/shop/secrets/A%2EB?url_encoded=true`
    expect((await place.call('DELETE', path)).status).toBe(200)
    expect(await names()).toEqual([])
    expect(await place.call('DELETE', path)).toMatchObject({ status: 404, errors: [{ code: 10056 }] })
  })

  test('of a name that a variable has is refused', async () => {
    expect(await put('VAR', 'x')).toMatchObject({ status: 400, errors: [{ code: 10053 }] })
  })

  test('of more bytes than a variable has is refused', async () => {
    expect(await put('BIG', 'x'.repeat(BUNDLE_LIMITS.varBytesMax + 1))).toMatchObject({ status: 400 })
    expect(await names()).toEqual([])
  })

  test('of no Worker is refused by the code on which wrangler makes a draft', async () => {
    const draft = (): FormData =>
      uploadForm({ main_module: 'fresh', bindings: [], logpush: false }, [{ name: 'fresh', body: HELLO }])
    expect(await put('KEY', 'x', 'fresh')).toMatchObject({ status: 404, errors: [{ code: 10007 }] })
    await place.call('PUT', `${SCRIPTS}/fresh`, draft())
    expect((await put('KEY', 'x', 'fresh')).status).toBe(200)
    expect(place.registry.head.functions['fresh']).toMatchObject({ baseDomainHost: false, routes: [] })
  })

  test('is not put into service with a version that nobody deployed', async () => {
    const before = liveId()
    await place.call('POST', `${SCRIPTS}/shop/versions`, uploadForm({}))
    expect(await put('KEY', 'x')).toMatchObject({ status: 409, errors: [{ code: 10214 }] })
    expect(liveId()).toBe(before)
  })

  test('put beside others at the same moment is not lost', async () => {
    const answers = await Promise.all(['A', 'B', 'C', 'D'].map((name) => put(name, name)))
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200])
    expect(await opened()).toEqual({ A: 'A', B: 'B', C: 'C', D: 'D' })
  })
})

describe('secrets in bulk', () => {
  test('are put and deleted in one version', async () => {
    await put('OLD', 'old')
    const { status } = await place.call(
      'PATCH',
      `${SCRIPTS}/shop/secrets-bulk`,
      {
        secrets: { A: { name: 'A', text: '1', type: 'secret_text' }, B: { name: 'B', text: '2' }, OLD: null },
      },
      { headers: { 'content-type': 'application/merge-patch+json' } },
    )
    expect(status).toBe(200)
    expect(await opened()).toEqual({ A: '1', B: '2' })
  })

  test('are bounded', async () => {
    const many = Array.from({ length: WRANGLER_API_LIMITS.secretsPerCallMax + 1 }, (_, n) => [
      `S${n}`,
      { text: 'x' },
    ])
    const before = liveId()
    const answer = await place.call('PATCH', `${SCRIPTS}/shop/secrets-bulk`, {
      secrets: Object.fromEntries(many),
    })
    expect(answer).toMatchObject({
      status: 400,
      errors: [{ message: expect.stringMatching(/at most 100 secrets/) }],
    })
    expect(liveId()).toBe(before)
  })

  test('of releases that send all bindings again keep those that come without a value', async () => {
    await put('KEPT', 'kept')
    await put('GONE', 'gone')
    const { result } = await place.call('GET', `${SCRIPTS}/shop/settings`)
    const bindings = result.bindings.filter(({ name }: { name: string }) => name !== 'GONE')
    const form = new FormData()
    form.set(
      'settings',
      JSON.stringify({ bindings: [...bindings, { name: 'NEW', type: 'secret_text', text: 'new' }] }),
    )
    expect((await place.call('PATCH', `${SCRIPTS}/shop/settings`, form)).status).toBe(200)
    expect(await opened()).toEqual({ KEPT: 'kept', NEW: 'new' })
    const version = await place.registry.getVersion('shop', liveId())
    expect(version?.content.bindings).toContainEqual({ type: 'text', name: 'VAR', text: 'v' })
  })
})

describe('a secret of the next version', () => {
  const patch = (env: object, annotations = {}, script = 'shop'): Promise<Answer> =>
    place.call('PATCH', `${WORKERS}/workers/${script}/versions/latest`, { env, annotations })

  test('makes a version that does not serve, on the newest whether that serves or not', async () => {
    const before = liveId()
    await patch({ A: { type: 'secret_text', text: '1' } })
    const { result } = await patch(
      { B: { type: 'secret_text', text: '2' } },
      { 'workers/message': 'both', 'workers/tag': 't' },
    )
    expect(result.id).toMatch(/^[0-9a-f]{8}-/)
    expect(liveId()).toBe(before)
    expect(await opened(result.id.replaceAll('-', ''))).toEqual({ A: '1', B: '2' })
    const read = await place.call('GET', `${SCRIPTS}/shop/versions/${result.id}`)
    expect(read.result.annotations).toEqual({
      'workers/triggered_by': 'secret',
      'workers/message': 'both',
      'workers/tag': 't',
    })
    await patch({ A: null })
    expect(await names()).toEqual(['B'])
  })

  test('of no Worker is refused', async () => {
    expect(await patch({ A: { text: '1' } }, {}, 'none')).toMatchObject({
      status: 404,
      errors: [{ code: 10007 }],
    })
  })
})
