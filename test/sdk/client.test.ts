import { createServer, type RequestListener, type Server } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createClient } from '../../sdk/client/client.ts'
import type { Module } from '../../sdk/model/bundle.ts'
import { CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import {
  bundleOf,
  DEPLOY_OPTIONS,
  openControlPlace,
  refused,
  TOKEN,
  type ControlPlace,
} from '../harness/control-place.ts'

async function withServer(listener: RequestListener, use: (url: string) => Promise<void>): Promise<void> {
  const server: Server = createServer(listener)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  } finally {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  }
}

describe('a node that is not there', () => {
  test('is unreachable, with its URL and what to do', async () => {
    let closedUrl = ''
    await withServer(
      () => undefined,
      async (url) => {
        closedUrl = url
      },
    )
    const client = createClient({ controlUrl: closedUrl, token: TOKEN })
    await expect(client.status()).rejects.toThrow(
      refused('node_unreachable', new RegExp(`${closedUrl} \\(ECONNREFUSED\\): start one with "isola up"`)),
    )
    const reading = (async () => {
      for await (const line of client.logs('shop')) expect.fail(line.message)
    })()
    await expect(reading).rejects.toMatchObject({ code: 'node_unreachable' })
  })

  test.each([
    ['another server', 200, '<html>', /answered 200 but not as/],
    [
      'a server that knows no such path',
      404,
      'not found',
      /answered 404 but not as an isola control API does/,
    ],
    ['a server with errors of its own', 500, '{"error":{"code":"E1","message":"x"}}', /answered 500/],
    ['a server with a null body', 500, 'null', /answered 500/],
  ])('%s at that address is told apart', async (_what, status, body, message) => {
    await withServer(
      (_request, response) => response.writeHead(status).end(body),
      async (url) => {
        const client = createClient({ controlUrl: url, token: TOKEN })
        await expect(client.status()).rejects.toThrow(refused('node_unreachable', message))
      },
    )
  })

  test('a connection that breaks in the middle of an answer is unreachable', async () => {
    await withServer(
      (_request, response) => {
        response.writeHead(200, { 'content-length': '100' })
        response.write('{"version":', () => response.destroy())
      },
      async (url) => {
        const client = createClient({ controlUrl: url, token: TOKEN })
        await expect(client.status()).rejects.toMatchObject({ code: 'node_unreachable' })
      },
    )
  })

  test('a redirect is not followed: the token goes nowhere else', async () => {
    let calls = 0
    await withServer(
      (_request, response) => {
        calls++
        response.writeHead(302, { location: '/v1/elsewhere' }).end()
      },
      async (url) => {
        const client = createClient({ controlUrl: url, token: TOKEN })
        await expect(client.status()).rejects.toMatchObject({ code: 'node_unreachable' })
        expect(calls).toBe(1)
      },
    )
  })

  test.each(['', 'localhost:9090', '127.0.0.1:1', 'ftp://a', 'file:///etc/passwd'])(
    'the address %j is refused before anything is sent',
    (controlUrl) => {
      expect(() => createClient({ controlUrl, token: TOKEN })).toThrow(
        refused('invalid_argument', /control URL/),
      )
    },
  )
})

describe('a node that answers', () => {
  let place: ControlPlace
  beforeEach(async () => {
    place = await openControlPlace()
  })
  afterEach(() => place.close())

  test('says its errors with code, message, details and request id', async () => {
    const wrongToken = createClient({ controlUrl: `${place.url}/`, token: 'other' })
    await expect(wrongToken.status()).rejects.toMatchObject({ code: 'unauthorized' })
    await expect(place.client.getFunction('nothing')).rejects.toMatchObject({
      code: 'function_not_found',
      message: expect.stringContaining('"nothing"') as string,
      details: { requestId: expect.stringMatching(/^[0-9a-f-]{36}$/) as string },
    })
  })

  test('a name is one segment of the path, whatever is in it', async () => {
    for (const name of ['a/b', '../status', 'a?b', 'ä', '%']) {
      await expect(place.client.getFunction(name)).rejects.toMatchObject({ code: 'function_not_found' })
    }
  })

  test('every call of the API has a method that works', async () => {
    const { client } = place
    const deployed = await client.deployBundle('shop', bundleOf('one'), DEPLOY_OPTIONS)
    expect(await client.status()).toMatchObject({ generation: 1 })
    expect((await client.listFunctions()).map((record) => record.name)).toEqual(['shop'])
    expect((await client.getFunction('shop')).deployment).toEqual(deployed.deployment)
    const [version] = await client.listVersions('shop')
    const shares = [{ versionId: version!.id, percent: 100 }]
    expect((await client.setTraffic('shop', { shares })).generation).toBe(2)
    expect((await client.rollback('shop')).generation).toBe(3)
    expect(await client.addRoute('shop', { pattern: 'a.example' })).toEqual({ generation: 4 })
    expect(await client.listRoutes()).toHaveLength(1)
    expect(await client.removeRoute('shop', { pattern: 'a.example' })).toEqual({ generation: 5 })
    expect((await client.setPolicy('shop', { max: 1 })).policy.max).toBe(1)
    expect((await client.getPolicy('shop')).set).toEqual({ max: 1 })
    expect((await client.setLimits('shop', { cpuMs: 500 })).limits.cpuMs).toBe(500)
    expect((await client.getLimits('shop')).set).toEqual({ cpuMs: 500 })
    expect((await client.setSettings({ ceiling: { cpuMs: 600 } })).ceiling).toEqual({ cpuMs: 600 })
    expect((await client.getSettings()).ceiling).toEqual({ cpuMs: 600 })
    expect(await client.usage({ sinceMs: 0, functionName: 'shop' })).toEqual({ hours: [], lagS: 10 })
    expect(await client.metrics()).toBe('isola_up 1\n')
    expect(await client.deleteFunction('shop')).toEqual({ generation: 9 })
  })

  test('changes are recorded with the client’s name, and without one with the token’s', async () => {
    await place.client.deployBundle('shop', bundleOf('one'), DEPLOY_OPTIONS)
    await place.client.setPolicy('shop', { max: 1 })
    const anna = createClient({ controlUrl: place.url, token: TOKEN, actor: 'anna@laptop' })
    const { changes } = await anna.setPolicy('shop', { max: 2 })
    expect(changes.map(({ by }) => by)).toEqual(['anna@laptop', 'token'])
  })

  test('only what the node does not have is uploaded, each content once, and progress adds up', async () => {
    const module = (name: string, body: Uint8Array): Module => ({ name, kind: 'data', body })
    const same = new Uint8Array(1_000).fill(1)
    const modules = [
      module('a', same),
      module('b', same),
      module('empty', new Uint8Array(0)),
      ...Array.from({ length: 20 }, (_, index) => module(`m${index}`, new Uint8Array(100).fill(index + 2))),
    ]
    const progress: { sentBytes: number; totalBytes: number }[] = []
    const refs = await place.client.uploadBlobs(modules, { onProgress: (step) => progress.push(step) })
    expect(refs.map((ref) => ref.name)).toEqual(modules.map((module) => module.name))
    expect(progress).toHaveLength(22)
    expect(progress.at(-1)).toEqual({ sentBytes: 3_000, totalBytes: 3_000 })
    for (const ref of refs) expect(await place.registry.blobSizeBytes(ref.sha256)).toBe(ref.sizeBytes)
    const again: unknown[] = []
    expect(await place.client.uploadBlobs(modules, { onProgress: (step) => again.push(step) })).toEqual(refs)
    expect(again).toEqual([])
    expect(await place.client.uploadBlobs([])).toEqual([])
  })

  test('uploads run a few at a time, and the first failure ends them', async () => {
    const modules = Array.from({ length: 30 }, (_, index): Module => {
      return { name: `m${index}`, kind: 'data', body: new Uint8Array(10).fill(index) }
    })
    let running = 0
    let most = 0
    let calls = 0
    const putBlob = place.registry.putBlob.bind(place.registry)
    Object.assign(place.registry, {
      async putBlob(sha256: string, body: Uint8Array) {
        most = Math.max(most, ++running)
        await putBlob(sha256, body)
        running--
        if (++calls === 6) throw new Error('disk')
      },
    })
    await expect(place.client.uploadBlobs(modules)).rejects.toMatchObject({ code: 'internal' })
    expect(most).toBeLessThanOrEqual(CONTROL_LIMITS.uploadsConcurrentMax)
    expect(calls).toBeLessThan(modules.length)
  })
})
