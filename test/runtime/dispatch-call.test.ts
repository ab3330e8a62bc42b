/** Calls into dispatch namespaces as the egress proxy finds their functions, with a test in the place of the router. */
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { errorOf, LOOPBACK_RULES, send, startEgress, type EgressUnderTest } from '../harness/egress.ts'

const RULES = {
  ...LOOPBACK_RULES,
  dispatch: { customers: { anna: 'anna-1' }, others: { anna: 'anna-2', bob: 'bob-2' } },
}

let egress: EgressUnderTest
let close: () => void
const requests: IncomingMessage[] = []

/** Instance "i1" may call into "customers". */
beforeEach(async () => {
  requests.length = 0
  egress = await startEgress({ rules: RULES })
  await egress.proxy.handle({
    type: 'assign',
    id: 'i1',
    functionName: 'front',
    services: ['stock', 'dispatch:customers'],
  })
  const door = createServer((request, response) => {
    requests.push(request)
    response.writeHead(404, { 'isola-error': 'function_not_found', 'x-from': 'script' })
    response.end('no page of that name')
  })
  door.listen(join(egress.directory, 'invoke.sock'))
  await once(door, 'listening')
  close = () => {
    door.closeAllConnections()
    door.close()
  }
})
afterEach(async () => {
  close()
  await egress.close()
})

const call = (service: string, script?: string): ReturnType<typeof send> =>
  send(egress.socketPath, 'http://any.host/path', {
    headers: {
      'isola-service': service,
      ...(script !== undefined && { 'isola-dispatch-script': script }),
    },
  })

describe('a call into a dispatch namespace', () => {
  test('goes to the function that the script is, which hears nothing of the way; its own 404 stays its own', async () => {
    const answer = await call('dispatch:customers', 'anna')
    expect([answer.status, answer.body.toString()]).toEqual([404, 'no page of that name'])
    expect(answer.headers['isola-error']).toBeUndefined()
    const own = Object.entries(requests[0]!.headers).filter(([name]) => name.startsWith('isola'))
    expect(Object.fromEntries(own)).toEqual({
      'isola-function': 'anna-1',
      'isola-proto': 'http',
      'isola-depth': '1',
    })
  })

  test.each([['bob'], ['Anna'], ['constructor'], ['an%na'], ['anna, anna'], [undefined]])(
    'for a script that is not there (%s) is said to be that, and reaches nothing',
    async (script) => {
      const answer = await call('dispatch:customers', script)
      expect([answer.status, answer.headers['isola-error']]).toEqual([404, 'function_not_found'])
      expect(errorOf(answer).message).toContain('the dispatch namespace "customers" has no Worker')
      expect(requests).toEqual([])
    },
  )

  test.each([['dispatch:others'], ['dispatch:'], ['dispatch:constructor'], ['anna-1']])(
    'that the instance has no binding for (%s) is refused',
    async (service) => {
      const answer = await call(service, 'anna')
      expect([answer.status, errorOf(answer).code]).toEqual([403, 'egress_refused'])
      expect(requests).toEqual([])
    },
  )

  test('follows the rules as they change', async () => {
    await egress.proxy.handle({
      type: 'rules',
      rules: { ...RULES, dispatch: { customers: { bob: 'bob-1' } } },
    })
    expect((await call('dispatch:customers', 'anna')).headers['isola-error']).toBe('function_not_found')
    await call('dispatch:customers', 'bob')
    expect(requests.map(({ headers }) => headers['isola-function'])).toEqual(['bob-1'])
    // As from an agent that knows no namespaces.
    await egress.proxy.handle({ type: 'rules', rules: LOOPBACK_RULES })
    expect((await call('dispatch:customers', 'bob')).headers['isola-error']).toBe('function_not_found')
  })
})
