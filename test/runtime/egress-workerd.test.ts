import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, test } from 'vitest'
import { WebSocketServer } from 'ws'
import { listenLocally, LOOPBACK_RULES, send } from '../harness/egress.ts'
import { startReady } from '../harness/egress-process.ts'

const FIXTURES = fileURLToPath(new URL('../fixtures/egress/', import.meta.url))
const ARCHITECTURE = process.arch === 'arm64' ? 'arm64' : '64'
const WORKERD = fileURLToPath(
  new URL(`../../node_modules/@cloudflare/workerd-linux-${ARCHITECTURE}/bin/workerd`, import.meta.url),
)
const UID = process.getuid?.() ?? 0

const cleanups: (() => unknown)[] = []
const onCleanup = (cleanup: () => unknown): void => void cleanups.push(cleanup)
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

function serve(server: Server): Promise<number> {
  cleanups.push(() => {
    server.closeAllConnections()
    server.close()
  })
  return listenLocally(server)
}

describe('a function in workerd', () => {
  async function startFunction(socketPath: string, directory: string) {
    const config = join(directory, 'config.capnp')
    writeFileSync(
      config,
      `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = (
      modules = [(name = "function.js", esModule = embed "function.js")],
      compatibilityDate = "2026-10-01", globalOutbound = "internet")),
    (name = "internet", external = (address = "unix:${socketPath}", http = (style = proxy))) ],
  sockets = [(name = "http", address = "unix:${directory}/function.sock", http = (), service = "main")]);`,
    )
    writeFileSync(join(directory, 'function.js'), readFileSync(join(FIXTURES, 'function.js')))
    const child = spawn(WORKERD, ['serve', config, '--control-fd=3'], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    })
    cleanups.push(async () => {
      child.kill('SIGKILL')
      await once(child, 'exit')
    })
    await once(child.stdio[3] as NodeJS.ReadableStream, 'data')
    return async (
      action: string,
      target: string,
    ): Promise<{ status?: number; text?: string; threw?: string }> => {
      const path = `/?do=${action}&target=${encodeURIComponent(target)}`
      const answer = await send(join(directory, 'function.sock'), path, {
        headers: { host: 'function.example' },
      })
      return JSON.parse(answer.body.toString()) as { status?: number; text?: string; threw?: string }
    }
  }

  test('reaches HTTP servers, origins, WebSockets and TCP through the socket, and nothing it may not', async () => {
    const server = createServer((request, response) => {
      const chunks: Buffer[] = []
      request.on('data', (chunk: Buffer) => chunks.push(chunk))
      request.on('end', () => {
        const body = Buffer.concat(chunks).toString()
        response.end(`${request.method} ${request.headers.host} ${request.url} ${body}`.trim())
      })
    })
    const webSockets = new WebSocketServer({ server })
    webSockets.on('connection', (socket) =>
      socket.on('message', (data: Buffer) => socket.send(`pong to ${data.toString()}`)),
    )
    const port = await serve(server)
    const tcp = createTcpServer((socket) => socket.pipe(socket))
    const tcpPort = await listenLocally(tcp)
    cleanups.push(() => tcp.close())
    const origins = { shop: [{ pattern: 'site.example/*', origin: `http://127.0.0.1:${port}` }] }
    const { socketPath, directory, agent } = await startReady(onCleanup, {
      rules: { ...LOOPBACK_RULES, origins },
    })
    const run = await startFunction(socketPath, directory)

    const here = `127.0.0.1:${port}`
    expect(await run('fetch', `http://${here}/a?b`)).toEqual({ status: 200, text: `GET ${here} /a?b` })
    expect(await run('fetch', 'https://site.example/page')).toEqual({
      status: 200,
      text: 'GET site.example /page',
    })
    expect(await run('upload', `http://${here}/up`)).toEqual({
      status: 200,
      text: `POST ${here} /up streamed`,
    })
    expect(await run('websocket', `http://${here}/`)).toEqual({ status: 101, text: 'pong to ping' })
    expect(await run('websocket', 'https://site.example/ws')).toEqual({ status: 101, text: 'pong to ping' })
    expect(await run('connect', `127.0.0.1:${tcpPort}`)).toEqual({ text: 'ping' })

    const refused = await run('fetch', 'http://169.254.169.254/latest/meta-data/')
    expect(refused).toMatchObject({ status: 403, text: expect.stringContaining('"egress_refused"') })
    expect(await run('websocket', 'http://10.0.0.1/')).toEqual({ status: 403 })
    expect(await run('connect', '10.0.0.1:5432')).toMatchObject({
      threw: expect.stringContaining('cannot connect'),
    })
    const failed = await run('fetch', `https://${here}/`)
    expect(failed).toMatchObject({ status: 502, text: expect.stringContaining('"egress_failed"') })
    agent.channel.send({ type: 'rules', rules: { ...LOOPBACK_RULES, allowedCidrs: [] } })
    agent.channel.send({ type: 'listen', id: 'i1', socketPath, uid: UID })
    await agent.next('listening')
    expect(await run('fetch', `http://${here}/`)).toMatchObject({ status: 403 })
  })
})
