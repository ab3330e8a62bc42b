/** Dispatch namespaces on a whole node: uploads as wrangler makes them, real isolates, the egress proxy, the inner door. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startWorkNode, type WorkNode } from '../harness/work-node.ts'
import { uploadForm, WORKERS } from '../harness/wrangler-place.ts'

const NAMESPACE = `${WORKERS}/dispatch/namespaces/customers`

const FRONT = `export default { async fetch(request, env) {
  const { pathname, searchParams } = new URL(request.url)
  if (pathname === '/forge') {
    return fetch('http://any.host/', { headers: { 'isola-service': 'dispatch:customers', 'isola-dispatch-script': 'anna' } })
  }
  try {
    const options = JSON.parse(searchParams.get('options') ?? 'null') ?? undefined
    const args = JSON.parse(searchParams.get('args') ?? 'null') ?? undefined
    return await env.D.get(searchParams.get('name'), args, options).fetch(request)
  } catch (error) {
    return new Response(error.name + ': ' + error.message, { status: 555 })
  }
} }`
const ANNA = `export default { async fetch(request) {
  const own = [...request.headers.keys()].filter((name) => name.startsWith('isola-dispatch') || name === 'isola-service')
  return new Response(JSON.stringify({ method: request.method, url: request.url, body: await request.text(), own }),
    { status: 222, headers: { 'isola-error': 'function_not_found', 'x-error': 'none' } })
} }`

let node: WorkNode

async function api(method: string, path: string, body?: unknown): Promise<void> {
  const response = await fetch(`${node.controlUrl}/client/v4${path}`, {
    method,
    headers: { authorization: `Bearer ${node.token}` },
    ...(body !== undefined && { body: body instanceof FormData ? body : JSON.stringify(body) }),
  })
  expect(await response.json()).toMatchObject({ success: true })
}

const put = (script: string, source: string): Promise<void> =>
  api(
    'PUT',
    `${NAMESPACE}/scripts/${script}`,
    uploadForm({ bindings: [] }, [{ name: 'index.js', body: source }]),
  )
const dispatch = (
  name: string,
  more = '',
  init?: Parameters<WorkNode['get']>[2],
): ReturnType<WorkNode['get']> => node.get('front', `/path?name=${encodeURIComponent(name)}${more}`, init)
const json = (value: unknown): string => encodeURIComponent(JSON.stringify(value))

beforeAll(async () => {
  node = await startWorkNode()
  await api('POST', `${WORKERS}/dispatch/namespaces`, { name: 'customers' })
  await put('anna', ANNA)
  await node.deploy('front', FRONT, { bindings: [{ type: 'dispatch', name: 'D', namespace: 'customers' }] })
  await node.deploy('stranger', FRONT)
})
afterAll(async () => {
  expect((await node.stop()).leftBehind).toEqual([])
})

describe('a dispatch binding', () => {
  test('calls the script it names, with method, URL and body, and gives its answer', async () => {
    const { status, text } = await dispatch('anna', '', { method: 'POST', body: 'the body' })
    expect(status).toBe(222)
    expect(JSON.parse(text)).toMatchObject({ method: 'POST', body: 'the body', own: [] })
  })

  test.each([['nobody'], ['constructor'], ['Anna'], ['an%na'], ['änna'], ['front']])(
    'throws as Cloudflare’s for a script that is not there: %s',
    async (name) => {
      expect(await dispatch(name)).toMatchObject({ status: 555, text: 'Error: Worker not found.' })
    },
  )

  test('calls a script that was uploaded meanwhile, and not one that was deleted', async () => {
    await put('bob', 'export default { fetch: () => new Response("bob") }')
    expect((await dispatch('bob')).text).toBe('bob')
    await put('bob', 'export default { fetch: () => new Response("bob 2") }')
    expect((await dispatch('bob')).text).toBe('bob 2')
    await api('DELETE', `${NAMESPACE}/scripts/bob`)
    expect((await dispatch('bob')).text).toBe('Error: Worker not found.')
  })

  test('without a name is refused; so is what isola would not hold to', async () => {
    expect((await dispatch('')).text).toContain('needs the name of a Worker')
    expect((await dispatch('anna', `&args=${json({})}&options=${json({ limits: {} })}`)).status).toBe(222)
    for (const more of [
      `&args=${json({ key: 1 })}`,
      `&options=${json({ limits: { cpuMs: 5 } })}`,
      `&options=${json({ outbound: { a: 1 } })}`,
    ]) {
      const { status, text } = await dispatch('anna', more)
      expect([status, text], more).toEqual([555, expect.stringContaining('isola does not have yet')])
    }
  })

  test('is needed: a function without it reaches no script by writing headers itself', async () => {
    const { status, text } = await node.get('stranger', '/forge')
    expect(status).toBeGreaterThanOrEqual(400)
    expect(text).toContain('egress_')
  })

  test('is the only way: a script of a namespace answers on no host', async () => {
    const { stdout } = await node.isola('list', '--json')
    const name = /"name": ?"(anna-[0-9a-f]{16})"/.exec(stdout)?.[1] ?? ''
    expect(name).not.toBe('')
    expect(await node.get(name)).toMatchObject({ status: 404, code: 'route_not_found' })
  })

  test('still leads there after the agent has gone and come back', async () => {
    await node.kill9()
    await node.restart()
    expect((await dispatch('anna')).status).toBe(222)
  })
})
