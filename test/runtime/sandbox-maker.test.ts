import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { request, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { createEgressNetwork } from '../../runtime/container/egress-network.ts'
import { createEngine } from '../../runtime/container/engine-client.ts'
import { createFirewall } from '../../runtime/container/iptables.ts'
import { createSandboxMaker } from '../../runtime/container/sandbox-maker.ts'
import type { Sandbox } from '../../runtime/container/sandbox.ts'
import { describeEngine } from '../harness/engine.ts'
import { openSandboxes, type SandboxPlace } from '../harness/sandbox-place.ts'

let place: SandboxPlace
let made: Sandbox[] = []
let count = 0
const make = async (port = 8080): Promise<Sandbox> => {
  const sandbox = await place.sandboxes.make({ id: `s${++count}`, egress: false, port })
  made.push(sandbox)
  return sandbox
}

interface Answer {
  readonly status: number
  readonly headers: readonly string[]
  readonly text: string
}

const send = (
  { httpSocket }: Sandbox,
  options: {
    path?: string
    method?: string
    headers?: Record<string, string | string[]>
    body?: Uint8Array
  } = {},
): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const outgoing = request(
      { socketPath: httpSocket, agent: false, ...options },
      (response: IncomingMessage) => {
        text(response).then(
          (body) => resolve({ status: response.statusCode!, headers: response.rawHeaders, text: body }),
          reject,
        )
      },
    )
    outgoing.on('error', reject)
    outgoing.end(options.body)
  })

const ECHO = `require('node:http').createServer((request, response) => {
  if (request.url === '/bytes') {
    let bytes = 0
    request.on('data', (chunk) => (bytes += chunk.length))
    request.on('end', () => response.end(String(bytes)))
  } else if (request.url === '/through') {
    response.writeHead(200, { 'X-CamelCase': 'Kept', 'Set-Cookie': ['a=1', 'b=2'] })
    response.flushHeaders()
    request.pipe(response)
  } else if (request.url === '/empty') response.writeHead(204).end()
  else if (request.url === '/cut') request.socket.destroy()
  else response.end(JSON.stringify({ method: request.method, url: request.url, headers: request.rawHeaders }))
}).listen(8080, '127.0.0.1')`

describeEngine('a sandbox', () => {
  beforeAll(async () => {
    place = await openSandboxes()
  })
  afterEach(async () => {
    await Promise.all(made.map((sandbox) => sandbox.remove()))
    made = []
  })
  afterAll(() => place.close())

  test('leads from a unix socket to the port inside, headers, target and method as they came', async () => {
    const sandbox = await make()
    expect(sandbox).toMatchObject({ egress: false, port: 8080 })
    expect(sandbox.networkMode).toBe(`container:${sandbox.containerId}`)
    await place.serve(sandbox, ECHO)
    const answer = await send(sandbox, {
      path: '/a%2Fb//c?x=%20',
      method: 'PATCH',
      headers: { Host: 'Shop.Example:99', 'X-Twice': ['1', '2'] },
      body: Buffer.from('abc'),
    })
    const seen = JSON.parse(answer.text) as { method: string; url: string; headers: string[] }
    expect(seen).toMatchObject({ method: 'PATCH', url: '/a%2Fb//c?x=%20' })
    expect(seen.headers.join(' ')).toContain('X-Twice 1 X-Twice 2')
    expect(seen.headers.join(' ')).toContain('Host Shop.Example:99')
    const through = await send(sandbox, { path: '/through', method: 'POST', body: Buffer.from('hi') })
    expect(through.headers.join(' ')).toContain('X-CamelCase Kept')
    expect(through.headers.join(' ')).toContain('Set-Cookie a=1 Set-Cookie b=2')
    expect((await send(sandbox, { method: 'HEAD' })).text).toBe('')
    expect(await send(sandbox, { path: '/empty' })).toMatchObject({ status: 204, text: '' })
  })

  test('streams both ways at once and carries a large body', async () => {
    const sandbox = await make()
    await place.serve(sandbox, ECHO)
    const outgoing = request({
      socketPath: sandbox.httpSocket,
      path: '/through',
      method: 'POST',
      agent: false,
    })
    outgoing.flushHeaders()
    const response = await new Promise<IncomingMessage>((resolve) => outgoing.once('response', resolve))
    const chunks = response[Symbol.asyncIterator]() as AsyncIterator<Buffer>
    for (const word of ['one', 'two']) {
      outgoing.write(word)
      expect(String((await chunks.next()).value)).toBe(word)
    }
    outgoing.end()
    expect((await chunks.next()).done).toBe(true)
    const bytes = 24 * 1024 * 1024
    expect(await send(sandbox, { path: '/bytes', method: 'PUT', body: Buffer.alloc(bytes) })).toMatchObject({
      text: String(bytes),
    })
  })

  test('carries WebSockets, with their frames and the code of their end', async () => {
    const sandbox = await make()
    // The server's half of RFC 6455, as far as one short text frame needs it.
    await place.serve(
      sandbox,
      `const { createHash } = require('node:crypto')
      require('node:http').createServer().on('upgrade', (request, socket) => {
        const key = createHash('sha1').update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64')
        socket.write('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: ' + key + '\\r\\nSec-WebSocket-Protocol: chat\\r\\n\\r\\n')
        socket.on('data', (frame) => {
          const mask = frame.subarray(2, 6)
          const text = frame.subarray(6, 6 + (frame[1] & 127)).map((byte, index) => byte ^ mask[index % 4])
          socket.write(Buffer.concat([Buffer.from([frame[0], text.length]), text]))
          if (frame[0] === 0x88) socket.end()
        })
      }).listen(8080)`,
    )
    const socket = new WebSocket(`ws+unix:${sandbox.httpSocket}:/chat`, 'chat', { perMessageDeflate: false })
    const message = await new Promise((resolve, reject) => {
      socket.once('open', () => socket.send('hello'))
      socket.once('message', (data: Buffer) => resolve(String(data)))
      socket.once('error', reject)
    })
    expect(message).toBe('hello')
    expect(socket.protocol).toBe('chat')
    const code = await new Promise((resolve) => {
      socket.once('close', resolve)
      socket.close(4001)
    })
    expect(code).toBe(4001)
  })

  test('its memory is enough for what is on its way, however large or slow', async () => {
    const sandbox = await make()
    await place.serve(
      sandbox,
      `const block = Buffer.alloc(64 * 1024)
      require('node:http').createServer((request, response) => {
        let left = 128 * 16
        const more = () => {
          while (left-- > 0) if (!response.write(block)) return response.once('drain', more)
          response.end()
        }
        more()
      }).listen(8080)`,
    )
    const responses = await Promise.all(
      Array.from(
        { length: 50 },
        () =>
          new Promise<IncomingMessage>((resolve, reject) => {
            request({ socketPath: sandbox.httpSocket, agent: false }, resolve).on('error', reject).end()
          }),
      ),
    )
    // One is read to its end, past all those that nobody reads.
    let bytes = 0
    for await (const chunk of responses[0]!) bytes += (chunk as Buffer).length
    expect(bytes).toBe(128 * 1024 * 1024)
    for (const response of responses) response.destroy()
    expect(await place.engine.inspectContainer(sandbox.containerId)).toMatchObject({
      status: 'running',
      outOfMemory: false,
    })
  })

  test('a request for which nothing listens, or whose server cuts it, ends without an answer', async () => {
    const sandbox = await make()
    await expect(send(sandbox)).rejects.toMatchObject({ code: 'ECONNRESET' })
    await place.serve(sandbox, ECHO)
    await expect(send(sandbox, { path: '/cut', method: 'POST' })).rejects.toMatchObject({
      code: 'ECONNRESET',
    })
    expect(await send(sandbox, { path: '/empty' })).toMatchObject({ status: 204 })
  })

  test('a function that is not root may listen on port 80', async () => {
    const sandbox = await make(80)
    await place.serve(sandbox, ECHO.replace('8080', '80'))
    expect((await send(sandbox)).status).toBe(200)
  })

  test('waits until something listens where 127.0.0.1 reaches it, and no longer than it is asked to', async () => {
    const sandbox = await make()
    const ended = new AbortController()
    const waiting = place.sandboxes.whenListening(sandbox, ended.signal)
    await place.node(`require('node:net').createServer().listen(9999, '127.0.0.1')`, {
      networkMode: sandbox.networkMode,
    })
    await place.sandboxes.whenListening({ ...sandbox, port: 9999 }, AbortSignal.timeout(20_000))
    ended.abort(new Error('long enough'))
    await expect(waiting).rejects.toThrow('long enough')
  })

  test('is confined like everything: no root, no capability, nothing to write to, no network', async () => {
    const sandbox = await make()
    const status = readFileSync(`/proc/${sandbox.pid}/status`, 'utf8')
    expect(status).toMatch(/^Uid:\t64000\t/m)
    expect(status).toMatch(/^CapEff:\t0{16}$/m)
    expect(status).toMatch(/^NoNewPrivs:\t1$/m)
    const mounts = readFileSync(`/proc/${sandbox.pid}/mounts`, 'utf8')
    expect(mounts).toMatch(/^overlay \/ overlay ro,/m)
    expect(
      await place.outputOf(
        await place.node(`console.log(Object.keys(require('node:os').networkInterfaces()).join())`, {
          networkMode: sandbox.networkMode,
        }),
      ),
    ).toEqual({ text: 'lo', exitCode: 0 })
  })

  test('its directory is not its own any more once it listens', async () => {
    const sandbox = await make()
    const directory = join(place.runDirectory, 'c', sandbox.id)
    expect(statSync(join(directory, 's')).uid).toBe(process.getuid!())
    expect(statSync(sandbox.httpSocket).ino).toBe(statSync(join(directory, 's', 'http.sock')).ino)
  })

  test('removed, it leaves neither container nor files', async () => {
    const sandbox = await make()
    await sandbox.remove()
    await sandbox.remove()
    expect(await place.engine.inspectContainer(sandbox.containerId)).toBeUndefined()
    expect(existsSync(join(place.runDirectory, 'c', sandbox.id))).toBe(false)
  })

  test('another agent takes over the one that runs, and not the one that has ended', async () => {
    const sandbox = await make(8081)
    const { engine, isolationName, runDirectory, egress } = place
    const next = createSandboxMaker({
      engine,
      isolationName,
      runDirectory,
      egressNetwork: egress,
      sandboxImage: () => Promise.reject(new Error('not asked for')),
    })
    expect(await next.adopt(sandbox.id)).toMatchObject({
      id: sandbox.id,
      containerId: sandbox.containerId,
      pid: sandbox.pid,
      httpSocket: sandbox.httpSocket,
      port: 8081,
      egress: false,
    })
    expect(await next.adopt('nobody')).toBeUndefined()
    await engine.killContainer(sandbox.containerId, 'SIGKILL')
    await place.outputOf(sandbox.containerId)
    expect(await next.adopt(sandbox.id)).toBeUndefined()
    await expect(next.whenListening(sandbox, AbortSignal.timeout(20_000))).rejects.toMatchObject({
      code: 'internal',
    })
  })

  test('one that cannot be made says why and leaves nothing behind', async () => {
    const { engine, isolationName, runDirectory, egress, image } = place
    // An image without workerd.
    const imageId = await image()
    const broken = createSandboxMaker({
      engine,
      isolationName,
      runDirectory,
      egressNetwork: egress,
      sandboxImage: () => Promise.resolve({ imageId }),
    })
    const before = readdirSync(join(runDirectory, 'c'))
    await expect(broken.make({ id: 'broken', egress: false, port: 8080 })).rejects.toMatchObject({
      code: 'internal',
      message: expect.stringContaining('no sandbox can be made'),
    })
    expect(readdirSync(join(runDirectory, 'c'))).toEqual(before)
    expect(await engine.listContainers({ 'isola.id': 'broken', 'isola.node': isolationName })).toEqual([])
  })

  test('without an engine it is told as such, and without a firewall egress is refused before anything is made', async () => {
    const { engine, isolationName, runDirectory, egress, image } = place
    const imageId = await image()
    const options = { isolationName, runDirectory, sandboxImage: () => Promise.resolve({ imageId }) }
    const before = readdirSync(join(runDirectory, 'c'))
    const absent = createSandboxMaker({
      ...options,
      engine: createEngine({ socketPath: join(runDirectory, 'none.sock') }),
      egressNetwork: egress,
    })
    await expect(absent.make({ id: 'absent', egress: false, port: 8080 })).rejects.toMatchObject({
      code: 'engine_unavailable',
    })
    const unprotected = createSandboxMaker({
      ...options,
      engine,
      egressNetwork: createEgressNetwork({
        engine,
        isolationName,
        allowedCidrs: [],
        ownAddresses: [],
        firewall: createFirewall({ path: '/nonexistent' }),
      }),
    })
    await expect(unprotected.make({ id: 'open', egress: true, port: 8080 })).rejects.toMatchObject({
      code: 'unsupported_machine',
    })
    expect(await engine.listContainers({ 'isola.id': 'open', 'isola.node': isolationName })).toEqual([])
    expect(await engine.listNetworks({ 'isola.node': isolationName })).toEqual([])
    expect(readdirSync(join(runDirectory, 'c'))).toEqual(before)
  })

  test('its forwarder ends at once when it is told to', async () => {
    const sandbox = await make()
    await place.engine.killContainer(sandbox.containerId, 'SIGTERM')
    expect(await place.outputOf(sandbox.containerId)).toMatchObject({ exitCode: 0 })
    await new Promise<void>((resolve) => {
      connect(sandbox.httpSocket).once('error', () => resolve())
    })
  })
})
