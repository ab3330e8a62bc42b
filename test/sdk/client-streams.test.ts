import { createServer, type RequestListener } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { createClient, type ControlClient } from '../../sdk/client/client.ts'
import { IsolaError } from '../../sdk/model/errors.ts'

const IMAGE = { imageId: `sha256:${'a'.repeat(64)}`, sizeBytes: 1, architecture: 'amd64' }

async function withClient(
  listener: RequestListener,
  use: (client: ControlClient) => Promise<void>,
): Promise<void> {
  const server = createServer(listener)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  try {
    await use(createClient({ controlUrl: `http://127.0.0.1:${port}`, token: 'token', actor: 'me' }))
  } finally {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  }
}

describe('a stream that is sent', () => {
  test('goes out as it comes, and its log comes back meanwhile', async () => {
    const logs: string[] = []
    const body = new Readable({ read: () => undefined })
    await withClient(
      (request, response) => {
        expect(request.headers).toMatchObject({ authorization: 'Bearer token', 'isola-actor': 'me' })
        request.once('data', () => {
          response.write(`${JSON.stringify({ type: 'log', text: 'first' })}\n`)
          request
            .resume()
            .on('end', () => response.end(`${JSON.stringify({ type: 'image', image: IMAGE })}\n`))
        })
      },
      async (client) => {
        body.push('begin')
        const image = await client.loadImage(body, {
          onLog(text) {
            logs.push(text)
            // Only now the rest: it was answered before its end.
            body.push(null)
          },
        })
        expect(image).toEqual(IMAGE)
      },
    )
    expect(logs).toEqual(['first'])
  })

  test('that is refused before its end is left off', async () => {
    const body = new Readable({ read: () => undefined })
    body.push('begin')
    await withClient(
      (_request, response) => {
        const error = { code: 'engine_unavailable', message: 'no engine', requestId: 'r' }
        response.writeHead(503).end(JSON.stringify({ error }))
      },
      async (client) => {
        await expect(client.loadImage(body)).rejects.toMatchObject({
          code: 'engine_unavailable',
          details: { requestId: 'r' },
        })
      },
    )
    expect(body.destroyed).toBe(true)
  })

  test('that fails by itself fails with its own error', async () => {
    const failing = Readable.from(
      (async function* () {
        yield Buffer.from('begin')
        throw new IsolaError('build_failed', 'the file changed')
      })(),
    )
    await withClient(
      (request) => request.resume(),
      async (client) => {
        await expect(client.buildImage(failing, { dockerfile: 'Dockerfile' })).rejects.toMatchObject({
          code: 'build_failed',
          message: 'the file changed',
        })
      },
    )
  })

  test('to nobody is unreachable', async () => {
    let closed: ControlClient | undefined
    await withClient(
      () => undefined,
      async (client) => {
        closed = client
      },
    )
    const body = new Readable({ read: () => undefined })
    await expect(closed?.loadImage(body)).rejects.toMatchObject({ code: 'node_unreachable' })
    expect(body.destroyed).toBe(true)
  })
})

describe('an answer that breaks off', () => {
  test('in the middle of an invocation is unreachable', async () => {
    await withClient(
      (_request, response) => {
        response.writeHead(200, { 'content-length': '100' })
        response.write('{', () => response.destroy())
      },
      async (client) => {
        await expect(client.invoke('a', { payload: '{}' })).rejects.toMatchObject({
          code: 'node_unreachable',
        })
      },
    )
  })

  test('in the middle of a pull is unreachable', async () => {
    await withClient(
      (_request, response) => {
        response.writeHead(200)
        response.write('{"type":"log","text":"a"}\n', () => response.destroy())
      },
      async (client) => {
        await expect(client.pullImage({ reference: 'a' })).rejects.toMatchObject({ code: 'node_unreachable' })
      },
    )
  })

  test('a redirect is not followed', async () => {
    await withClient(
      (_request, response) => response.writeHead(307, { location: 'http://127.0.0.1:1/' }).end(),
      async (client) => {
        await expect(client.invoke('a', { payload: '{}' })).rejects.toThrow('answered 307 but not as')
      },
    )
  })
})
