import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { dispatchOf, snapshotOf } from '../../runtime/node/snapshot.ts'
import {
  HELLO,
  openWranglerPlace,
  SCRIPTS,
  uploadForm,
  WORKERS,
  type Answer,
  type WranglerPlace,
} from '../harness/wrangler-place.ts'

const NAMESPACES = `${WORKERS}/dispatch/namespaces`

let place: WranglerPlace

beforeEach(async () => {
  place = await openWranglerPlace()
  expect(await create('customers')).toMatchObject({ status: 200 })
})
afterEach(() => place.close())

const create = (name: unknown): Promise<Answer> => place.call('POST', NAMESPACES, { name })
const put = (
  script: string,
  namespace = 'customers',
  metadata: Record<string, unknown> = {},
): Promise<Answer> =>
  place.call(
    'PUT',
    `${NAMESPACES}/${namespace}/scripts/${script}?excludeScript=true&bindings_inherit=strict`,
    uploadForm({ bindings: [], ...metadata }, [{ name: 'index.js', body: HELLO }]),
  )
const message = ({ errors }: Answer): string => errors.map((error) => error.message).join('\n')
const functionNames = (): string[] => Object.keys(place.registry.head.functions)

describe('dispatch namespaces', () => {
  test('are made, listed, read, renamed and deleted', async () => {
    await create('others')
    const { result } = await place.call('GET', NAMESPACES)
    expect(result).toMatchObject([{ namespace_name: 'customers' }, { namespace_name: 'others' }])
    const [{ namespace_id: id }] = result
    expect(id).toMatch(/^[0-9a-f-]{36}$/)
    const renamed = await place.call('PUT', `${NAMESPACES}/customers`, { name: 'tenants' })
    expect(renamed.result).toMatchObject({ namespace_id: id, namespace_name: 'tenants' })
    expect((await place.call('GET', `${NAMESPACES}/tenants`)).result).toMatchObject({ namespace_id: id })
    expect(await place.call('DELETE', `${NAMESPACES}/tenants`)).toMatchObject({ status: 200, success: true })
    expect((await place.call('GET', NAMESPACES)).result).toMatchObject([{ namespace_name: 'others' }])
  })

  test('of another process that opens the registry are the same', async () => {
    await put('anna')
    const other = await place.open()
    expect(other.head.dispatchNamespaces).toEqual(place.registry.head.dispatchNamespaces)
    expect(Object.keys(other.head.dispatchNamespaces?.customers?.functionByScript ?? {})).toEqual(['anna'])
    other.close()
  })

  test.each([[''], ['__proto__'], ['a/b'], ['x'.repeat(65)], [7]])('cannot be called %j', async (name) => {
    expect(await create(name)).toMatchObject({ status: 400, success: false })
    expect(Object.keys(place.registry.head.dispatchNamespaces ?? {})).toEqual(['customers'])
  })

  test('have one name each', async () => {
    await create('others')
    for (const answer of [
      await create('customers'),
      await place.call('PUT', `${NAMESPACES}/others`, { name: 'customers' }),
    ]) {
      expect(answer).toMatchObject({ status: 409, success: false })
      expect(message(answer)).toContain('"customers"')
    }
  })

  test.each([
    ['GET', ''],
    ['PUT', ''],
    ['DELETE', ''],
    ['GET', '/scripts'],
    ['GET', '/scripts/anna'],
    ['DELETE', '/scripts/anna'],
  ])('that are not there are named: %s %s', async (method, path) => {
    for (const name of ['nobody', 'constructor']) {
      const answer = await place.call(
        method,
        `${NAMESPACES}/${name}${path}`,
        method === 'PUT' ? { name: 'x' } : undefined,
      )
      expect(answer).toMatchObject({ status: 404, errors: [{ code: 100119 }] })
      expect(message(answer)).toContain(`"${name}"`)
    }
  })

  test('are not deleted while they have scripts', async () => {
    await put('anna')
    const answer = await place.call('DELETE', `${NAMESPACES}/customers`)
    expect(answer).toMatchObject({ status: 409, success: false })
    expect(message(answer)).toMatch(/1 script \(anna\).*isola delete anna-[0-9a-f]{16}/)
    await place.call('DELETE', `${NAMESPACES}/customers/scripts/anna`)
    expect(await place.call('DELETE', `${NAMESPACES}/customers`)).toMatchObject({ status: 200 })
    expect(functionNames()).toEqual([])
  })
})

describe('a script of a namespace', () => {
  test('is not there with 10092, is uploaded, and then is', async () => {
    const path = `${NAMESPACES}/customers/scripts/anna`
    expect(await place.call('GET', path)).toMatchObject({ status: 404, errors: [{ code: 10092 }] })
    expect(await place.call('DELETE', path)).toMatchObject({ status: 404, errors: [{ code: 10092 }] })
    const uploaded = await put('anna')
    expect(uploaded.result).toMatchObject({
      id: 'anna',
      deployment_id: expect.stringMatching(/^[0-9a-f]{8}-/) as string,
    })
    const { result } = await place.call('GET', path)
    expect(result).toMatchObject({ dispatch_namespace: 'customers', script: { id: 'anna' } })
    expect((await place.call('GET', `${NAMESPACES}/customers/scripts`)).result).toMatchObject([
      { id: 'anna' },
    ])
  })

  test('is a function that answers on no host, and meets no function of the same name', async () => {
    await create('others')
    await place.call('PUT', `${SCRIPTS}/anna`, uploadForm({ bindings: [] }))
    await put('anna')
    await put('anna', 'others')
    expect(functionNames()).toHaveLength(3)
    const { functions } = snapshotOf(place.registry.head, 'localhost')
    for (const each of functions.filter(({ name }) => name !== 'anna')) {
      expect(each).toMatchObject({ patterns: [], baseDomainHost: false, previewVersionIds: [] })
    }
    const { customers, others } = dispatchOf(place.registry.head)
    expect(new Set([customers?.anna, others?.anna, 'anna']).size).toBe(3)
  })

  test('keeps its function through later uploads and a new name of the namespace', async () => {
    await put('anna')
    const before = dispatchOf(place.registry.head).customers?.anna
    await place.call('PUT', `${NAMESPACES}/customers`, { name: 'tenants' })
    await put('anna', 'tenants', { compatibility_date: '2026-10-01' })
    expect(dispatchOf(place.registry.head)).toEqual({ tenants: { anna: before } })
    expect(functionNames()).toEqual([before])
  })

  test('is given no host by the calls that give other functions theirs', async () => {
    await put('anna')
    const functionName = functionNames()[0] ?? ''
    for (const [method, path, body] of [
      ['POST', 'subdomain', { enabled: true }],
      ['PUT', 'routes', [{ pattern: 'anna.example/*' }]],
      ['PUT', 'domains/records', { origins: [{ hostname: 'anna.example' }] }],
    ] as const) {
      const answer = await place.call(method, `${SCRIPTS}/${functionName}/${path}`, body)
      expect(answer, path).toMatchObject({ status: 409, success: false })
      expect(message(answer)).toContain('dispatch namespace "customers"')
    }
    const off = await place.call('POST', `${SCRIPTS}/${functionName}/subdomain`, { enabled: false })
    expect(off.status).toBe(200)
    expect(place.registry.head.functions[functionName]).toMatchObject({ routes: [], baseDomainHost: false })
  })

  test('that is refused leaves nothing', async () => {
    const { generation } = place.registry.head
    const answer = await put('anna', 'customers', {
      bindings: [{ name: 'KV', type: 'kv_namespace', namespace_id: 'x' }],
    })
    expect(answer).toMatchObject({ status: 400, errors: [{ code: 10021 }] })
    expect(message(answer)).toContain('"KV"')
    expect(place.registry.head.generation).toBe(generation)
  })

  test('is in the head in the same swap as its function', async () => {
    const seen: string[] = []
    place.registry.onChange((head) => {
      const named = Object.keys(head.dispatchNamespaces?.customers?.functionByScript ?? {}).length
      seen.push(`${Object.keys(head.functions).length} functions, ${named} named`)
    })
    await put('anna')
    await place.call('DELETE', `${NAMESPACES}/customers/scripts/anna`)
    expect(seen).toEqual(['1 functions, 1 named', '0 functions, 0 named'])
  })

  test('whose namespace goes while it is uploaded is refused, and makes no function', async () => {
    place.node.trialStart = async () => {
      await place.call('DELETE', `${NAMESPACES}/customers`)
      await create('customers')
    }
    const answer = await put('anna')
    expect(answer).toMatchObject({ status: 404, success: false })
    expect(message(answer)).toContain('deleted meanwhile')
    expect(functionNames()).toEqual([])
  })

  test('goes with its function, however that is deleted', async () => {
    await put('anna')
    const functionName = functionNames()[0] ?? ''
    await place.client.deleteFunction(functionName)
    expect(dispatchOf(place.registry.head)).toEqual({ customers: {} })
    expect(await place.call('DELETE', `${NAMESPACES}/customers`)).toMatchObject({ status: 200 })
  })

  test.each([['Anna'], ['a_b'], ['x'.repeat(64)]])('cannot be called %j', async (script) => {
    expect(await put(script)).toMatchObject({ status: 400, errors: [{ code: 10021 }] })
    expect(functionNames()).toEqual([])
  })

  test('of the longest name is a function of a usable name', async () => {
    expect(await put(`a${'-'.repeat(61)}b`)).toMatchObject({ status: 200 })
    expect(functionNames()[0]).toMatch(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])$/)
  })
})

describe('a binding to a namespace', () => {
  const upload = (binding: Record<string, unknown>): Promise<Answer> =>
    place.call(
      'PUT',
      `${SCRIPTS}/front`,
      uploadForm({ bindings: [{ name: 'D', type: 'dispatch_namespace', ...binding }] }),
    )

  test('is taken and shown', async () => {
    expect(await upload({ namespace: 'customers' })).toMatchObject({ status: 200 })
    expect((await place.call('GET', `${SCRIPTS}/front/settings`)).result.bindings).toEqual([
      { name: 'D', type: 'dispatch_namespace', namespace: 'customers' },
    ])
  })

  test('that is not there is refused, and named', async () => {
    const answer = await upload({ namespace: 'nobody' })
    expect(answer).toMatchObject({ status: 400, errors: [{ code: 10021 }] })
    expect(message(answer)).toMatch(/"D".*"nobody"/)
    expect(functionNames()).toEqual([])
  })

  test('with an outbound Worker is refused by name', async () => {
    const answer = await upload({ namespace: 'customers', outbound: { worker: { service: 'out' } } })
    expect(answer).toMatchObject({ status: 400, errors: [{ code: 10021 }] })
    expect(message(answer)).toContain('outbound')
  })
})
