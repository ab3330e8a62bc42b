/** The control API's part: streaming, errors before and after the first word. A real engine is behind the last test. */
import { once } from 'node:events'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { request } from 'node:http'
import { createImageStore } from '../../runtime/container/image-store.ts'
import type { ControlPorts, ImagePort } from '../../runtime/control/ports.ts'
import type { ImageEvent } from '../../sdk/model/control.ts'
import { IsolaError, type ErrorBody } from '../../sdk/model/errors.ts'
import { CONTAINER_LIMITS, ENGINE_LIMITS } from '../../sdk/model/limits.ts'
import { openControlPlace, TOKEN, type ControlPlace } from '../harness/control-place.ts'
import { engineTest, withEngine } from '../harness/engine.ts'
import { tarOf } from '../harness/image-archives.ts'

const IMAGE = { imageId: `sha256:${'a'.repeat(64)}`, sizeBytes: 1, architecture: 'amd64' }
const HEARTBEAT_MS = 20

describe('images by the control API', () => {
  let place: ControlPlace
  let images: { -readonly [Key in keyof ImagePort]: ImagePort[Key] }
  beforeEach(async () => {
    place = await openControlPlace({ logHeartbeatMs: HEARTBEAT_MS })
    const unexpected = async (): Promise<never> => {
      throw new Error('not expected in this test')
    }
    images = { build: unexpected, load: unexpected, pull: unexpected }
    ;(place.ports as { images?: ImagePort }).images = images
  })
  afterEach(() => place.close())

  const send = (
    path: string,
    body: string | Uint8Array<ArrayBuffer> = 'tar',
    signal?: AbortSignal,
  ): Promise<Response> =>
    fetch(`${place.url}/v1/images/${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${TOKEN}` },
      body,
      ...(signal !== undefined && { signal }),
    })

  test('the words come as they are said, and the image last; the body reaches the engine whole', async () => {
    let received = ''
    let dockerfile: string | undefined
    images.build = async (asked) => {
      dockerfile = asked.dockerfile
      for await (const chunk of asked.tar) received += Buffer.from(chunk).toString()
      asked.onText('Step 1\n')
      asked.onText('Step 2\n')
      return IMAGE
    }
    const response = await send('build?dockerfile=deep%2FDockerfile', 'the context')
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toBe('application/x-ndjson')
    expect(await eventsOf(response)).toEqual([
      { type: 'log', text: 'Step 1\n' },
      { type: 'log', text: 'Step 2\n' },
      { type: 'image', image: IMAGE },
    ])
    expect(received).toBe('the context')
    expect(dockerfile).toBe('deep/Dockerfile')
  })

  test('what fails before the first word is an error as any other', async () => {
    images.load = async () => {
      throw new IsolaError('engine_unavailable', 'no engine here')
    }
    const response = await send('load')
    expect(response.status).toBe(503)
    expect(response.headers.get('retry-after')).toBe('5')
    expect(await errorOf(response)).toMatchObject({ code: 'engine_unavailable', message: 'no engine here' })
    expect(place.faults).toEqual([])
  })

  test('what fails after the first word is the last line, and a fault of ours hides its words', async () => {
    images.build = async ({ onText }) => {
      onText('Step 1\n')
      throw new IsolaError('build_failed', 'step 1 went wrong')
    }
    const failed = await eventsOf(await send('build'))
    expect(failed.at(-1)).toMatchObject({
      type: 'error',
      error: { code: 'build_failed', message: 'step 1 went wrong' },
    })
    const fault = new Error('a secret of the node')
    images.build = async ({ onText }) => {
      onText('Step 1\n')
      throw fault
    }
    const [, last] = await eventsOf(await send('build'))
    expect(last).toMatchObject({ type: 'error', error: { code: 'internal' } })
    expect(JSON.stringify(last)).not.toContain('secret')
    expect(place.faults).toEqual([fault])
  })

  test('a quiet builder is waited for: empty lines keep the stream alive', async () => {
    const ending = Promise.withResolvers<typeof IMAGE>()
    images.build = () => ending.promise
    const response = await send('build')
    const reader = response.body!.getReader()
    const { value } = await reader.read()
    expect(Buffer.from(value ?? []).toString()).toBe('\n')
    ending.resolve(IMAGE)
    let rest = ''
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      rest += Buffer.from(part.value).toString()
    }
    expect(JSON.parse(rest.trim())).toEqual({ type: 'image', image: IMAGE })
  })

  test('a builder that is faster than its reader is not held in memory: the reader is told what it missed', async () => {
    const text = 'x'.repeat(10_000)
    const count = Math.ceil((4 * ENGINE_LIMITS.textBytesBufferedMax) / text.length)
    images.build = async ({ onText }) => {
      for (let index = 0; index < count; index++) onText(text)
      return IMAGE
    }
    const events = await eventsOf(await send('build'))
    expect(events.length).toBeLessThan(count / 2)
    expect(events[0]).toMatchObject({ type: 'log', text: expect.stringContaining('were dropped') as string })
    expect(events.at(-1)).toEqual({ type: 'image', image: IMAGE })
  })

  test('a client that goes away is told to the builder, before and after the first word', async () => {
    for (const words of [0, 1]) {
      const begun = Promise.withResolvers<void>()
      const left = Promise.withResolvers<void>()
      images.build = async ({ onText, signal }) => {
        if (words > 0) onText('Step 1\n')
        begun.resolve()
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
        left.resolve()
        throw signal.reason
      }
      const leaving = new AbortController()
      const sending = send('build', 'tar', leaving.signal)
      await begun.promise
      if (words > 0) await sending
      leaving.abort()
      await sending.catch(() => undefined)
      await left.promise
    }
    expect(place.faults).toEqual([])
  })

  test('a body that breaks off is the client’s fault', async () => {
    const outcome = Promise.withResolvers<unknown>()
    images.load = async ({ tar }) => {
      try {
        for await (const _ of tar);
      } catch (error) {
        outcome.resolve(error)
        throw error
      }
      return IMAGE
    }
    const { port } = new URL(place.url)
    const sending = request({
      port,
      method: 'POST',
      path: '/v1/images/load',
      headers: { authorization: `Bearer ${TOKEN}`, 'content-length': '1000' },
    })
    sending.on('error', () => undefined)
    sending.write('half', () => sending.destroy())
    expect(await outcome.promise).toMatchObject({ code: 'bad_request' })
  })

  test.for(['/etc/Dockerfile', '../Dockerfile', 'a/../../b', ''])(
    'the Dockerfile %j is not in the context and is refused',
    async (path) => {
      const response = await send(`build?dockerfile=${encodeURIComponent(path)}`)
      expect(response.status).toBe(400)
      expect(await errorOf(response)).toMatchObject({ code: 'invalid_argument' })
    },
  )

  test('a body that is said to be larger than an image may be is refused unread', async () => {
    const { port } = new URL(place.url)
    const sending = request({
      port,
      method: 'POST',
      path: '/v1/images/load',
      headers: { authorization: `Bearer ${TOKEN}`, 'content-length': CONTAINER_LIMITS.imageBytesMax + 1 },
    })
    sending.on('error', () => undefined)
    sending.flushHeaders()
    const [response] = (await once(sending, 'response')) as [{ statusCode: number }]
    expect(response.statusCode).toBe(413)
    sending.destroy()
  })

  test('credentials of a pull reach the registry’s port; half of them, or a reference that is none, does not', async () => {
    const asked: unknown[] = []
    images.pull = async ({ reference, username, password }) => {
      asked.push({ reference, username, password })
      return IMAGE
    }
    const pull = (body: object): Promise<Response> => send('pull', JSON.stringify(body))
    const whole = { reference: 'registry.example:5000/a/b:1', username: 'ann', password: 'open sesame' }
    expect(await eventsOf(await pull(whole))).toEqual([{ type: 'image', image: IMAGE }])
    expect(asked).toEqual([whole])
    for (const body of [
      {},
      { reference: 'a b' },
      { reference: '-x' },
      { reference: 'a', username: 'ann' },
      { reference: 'a', tag: '1' },
    ]) {
      const response = await pull(body)
      expect(response.status).toBe(400)
      expect(await errorOf(response)).toMatchObject({ code: 'invalid_argument' })
    }
    expect(asked).toHaveLength(1)
  })

  test('a node without containers says so, and the token is asked for first', async () => {
    delete (place.ports as { images?: ControlPorts['images'] }).images
    const response = await send('load')
    expect(response.status).toBe(503)
    expect(await errorOf(response)).toMatchObject({ code: 'engine_unavailable' })
    const anonymous = await fetch(`${place.url}/v1/images/load`, { method: 'POST', body: 'tar' })
    expect(anonymous.status).toBe(401)
    expect(
      (await fetch(`${place.url}/v1/images/load`, { headers: { authorization: `Bearer ${TOKEN}` } })).status,
    ).toBe(405)
  })
})

engineTest('a build on a real engine streams its steps and ends with its image', async () => {
  const place = await openControlPlace()
  try {
    await withEngine(async ({ engine, isolationName, image, imageReference }) => {
      await image()
      const store = createImageStore({ engine, isolationName })
      ;(place.ports as { images?: ImagePort }).images = store
      const build = (body: Uint8Array<ArrayBuffer>): Promise<Response> =>
        fetch(`${place.url}/v1/images/build`, {
          method: 'POST',
          headers: { authorization: `Bearer ${TOKEN}` },
          body,
        })
      const context = await tarOf({ Dockerfile: `FROM ${imageReference}\nRUN echo "hello $((6 * 7))"\n` })
      const events = await eventsOf(await build(new Uint8Array(context)))
      expect(events.map((event) => (event.type === 'log' ? event.text : '')).join('')).toContain('hello 42\n')
      const last = events.at(-1)
      expect(last).toMatchObject({ type: 'image' })
      const imageId = last?.type === 'image' ? last.image.imageId : ''
      expect((await engine.inspectImage(imageId))?.labels).toMatchObject({ 'isola.image': 'function' })
      const broken = await build(new TextEncoder().encode('no tar'))
      expect(broken.status).toBe(400)
      expect(await errorOf(broken)).toMatchObject({ code: 'build_failed' })
    })
  } finally {
    await place.close()
  }
})

async function eventsOf(response: Response): Promise<ImageEvent[]> {
  const lines = (await response.text()).split('\n').filter((line) => line !== '')
  return lines.map((line) => JSON.parse(line) as ImageEvent)
}

async function errorOf(response: Response): Promise<ErrorBody['error']> {
  return ((await response.json()) as ErrorBody).error
}
