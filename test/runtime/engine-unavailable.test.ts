/** An engine that is not there, or is none. Needs no real one. */
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type RequestListener, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createEngine } from '../../runtime/container/engine-client.ts'
import { ENGINE_LIMITS } from '../../sdk/model/limits.ts'
import { examineEngine } from '../../sdk/cli/engine-checks.ts'

describe('an engine that cannot be used', () => {
  let directory: string
  let socketPath: string
  let server: Server | undefined
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'isola-engine-'))
    socketPath = join(directory, 'engine.sock')
  })
  afterEach(() => {
    server?.closeAllConnections()
    server?.close()
    server = undefined
    rmSync(directory, { recursive: true, force: true })
  })

  /** Greets as an engine of that version does; the rest is the test's. */
  async function serve(apiVersion: string | undefined, answer: RequestListener): Promise<void> {
    server = createServer((request, response) => {
      if (request.url !== '/_ping') return answer(request, response)
      if (apiVersion !== undefined) response.setHeader('api-version', apiVersion)
      response.end('OK')
    })
    server.listen(socketPath)
    await once(server, 'listening')
  }

  const INFO = {
    ServerVersion: '28.0.0',
    Driver: 'vfs',
    CgroupDriver: 'none',
    CgroupVersion: '2',
    Architecture: 'aarch64',
    DockerRootDir: '/no/such/directory',
  }

  test('no socket: the error says what to install, and that worker functions need none', async () => {
    await expect(createEngine({ socketPath }).info()).rejects.toMatchObject({
      code: 'engine_unavailable',
      status: 503,
      message: expect.stringMatching(/docker\.io.*isola doctor.*Worker functions/s) as string,
    })
  })

  test('a socket at which nobody listens: the error says how to start the engine', async () => {
    await serve('1.41', (_, response) => response.end())
    const engine = createEngine({ socketPath })
    await expect(engine.inspectContainer('x')).rejects.toMatchObject({ code: 'internal' })
    server?.closeAllConnections()
    server?.close()
    await expect(engine.inspectContainer('x')).rejects.toMatchObject({ code: 'engine_unavailable' })
  })

  test('an engine that comes back is used again, by the version that it speaks then', async () => {
    const engine = createEngine({ socketPath })
    await expect(engine.info()).rejects.toMatchObject({ code: 'engine_unavailable' })
    const urls: string[] = []
    await serve('1.43', (request, response) => {
      urls.push(request.url ?? '')
      response.end(JSON.stringify(INFO))
    })
    expect(await engine.info()).toMatchObject({ apiVersion: '1.43', architecture: 'arm64', cgroupVersion: 2 })
    expect(urls).toEqual(['/v1.43/info'])
  })

  test('an engine newer than this client is spoken to in the newest version that the client knows', async () => {
    await serve('1.99', (_, response) => response.end(JSON.stringify(INFO)))
    expect(await createEngine({ socketPath }).info()).toMatchObject({ apiVersion: '1.44' })
  })

  test('an engine that is too old is refused with the version that is needed', async () => {
    await serve('1.40', (_, response) => response.end('{}'))
    await expect(createEngine({ socketPath }).info()).rejects.toMatchObject({
      code: 'engine_unavailable',
      message: expect.stringMatching(/1\.40.*1\.41.*20\.10/s) as string,
    })
  })

  test('an engine that says nothing is given up', async () => {
    server = createServer(() => undefined)
    server.listen(socketPath)
    await once(server, 'listening')
    await expect(createEngine({ socketPath }).info()).rejects.toMatchObject({
      code: 'engine_unavailable',
      message: expect.stringContaining('not answered in time') as string,
    })
  })

  test('something else that listens there is no engine', async () => {
    await serve(undefined, (_, response) => response.end('{}'))
    await expect(createEngine({ socketPath }).info()).rejects.toMatchObject({
      code: 'engine_unavailable',
      message: expect.stringContaining('does not speak') as string,
    })
  })

  test('an answer that goes on for ever is not read to its end', async () => {
    const chunk = Buffer.alloc(1024 * 1024, 0x20)
    let sentBytes = 0
    await serve('1.41', (_, response) => {
      const write = (): void => {
        while (!response.destroyed && sentBytes < 4 * ENGINE_LIMITS.answerBytesMax) {
          sentBytes += chunk.length
          if (!response.write(chunk)) return void response.once('drain', write)
        }
      }
      write()
    })
    await expect(createEngine({ socketPath }).info()).rejects.toMatchObject({
      code: 'internal',
      message: expect.stringContaining(String(ENGINE_LIMITS.answerBytesMax)) as string,
    })
    expect(sentBytes).toBeLessThan(2 * ENGINE_LIMITS.answerBytesMax)
  })

  test('a line of a stream that never ends, and one that is no JSON, end a load with an error', async () => {
    let text = 'x'.repeat(ENGINE_LIMITS.streamLineBytesMax + 1)
    await serve('1.41', (request, response) => {
      request.resume().on('end', () => response.end(text))
    })
    const load = (): Promise<string> => createEngine({ socketPath }).loadImage(one(), () => undefined)
    await expect(load()).rejects.toMatchObject({
      message: expect.stringContaining('a line of more') as string,
    })
    text = 'no JSON\n'
    await expect(load()).rejects.toMatchObject({ message: expect.stringContaining('no JSON') as string })
  })

  test('an engine that goes away in the middle of a build is unavailable', async () => {
    await serve('1.41', (request, response) => {
      response.write('{"stream":"Step 1"}\n', () => request.socket.destroy())
    })
    const build = createEngine({ socketPath }).buildImage({
      tar: one(),
      labels: {},
      timeoutMs: 60_000,
      onText: () => undefined,
    })
    await expect(build).rejects.toMatchObject({ code: 'engine_unavailable' })
  })

  test('doctor warns of an engine that is not there, once, and of each thing that works less well', async () => {
    expect(await examineEngine({ socketPath })).toEqual([
      { check: 'engine', result: 'warn', message: expect.stringContaining('docker.io') as string },
    ])
    await serve('1.44', (_, response) => response.end(JSON.stringify(INFO)))
    expect(await examineEngine({ socketPath })).toEqual([
      { check: 'engine', result: 'ok', message: expect.stringContaining('28.0.0') as string },
      { check: 'engine storage', result: 'warn', message: expect.stringContaining('overlay2') as string },
      { check: 'engine cgroups', result: 'warn', message: expect.stringContaining('Delegate') as string },
      { check: 'engine disk', result: 'warn', message: expect.stringContaining('/no/such') as string },
    ])
  })
})

async function* one(): AsyncGenerator<Uint8Array> {
  yield Buffer.alloc(1_024)
}
