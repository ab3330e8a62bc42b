/** The function that every proxy of the router bench stands in front of: one stock workerd, on a unix socket and on TCP. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { workerdBinaryPath } from '../../runtime/machine/workerd-binary.ts'
import { freePort, spawnProcess, waitForListener, type SpawnedProcess } from './spawned-process.ts'

export interface Origin {
  readonly process: SpawnedProcess
  readonly socketPath: string
  readonly port: number
}

const SOURCE = `
const hello = 'hello from an isolate\\n'
const page = 'x'.repeat(16 * 1024)
const chunk = new Uint8Array(64 * 1024).fill(120)

function stream() {
  let left = 160
  return new ReadableStream({
    type: 'bytes',
    pull(controller) {
      controller.enqueue(chunk.slice())
      if (--left === 0) controller.close()
    },
  })
}

function echo() {
  const [client, server] = Object.values(new WebSocketPair())
  server.accept()
  server.addEventListener('message', (event) => server.send(event.data))
  return new Response(null, { status: 101, webSocket: client })
}

export default {
  async fetch(request) {
    const path = request.url.slice(request.url.indexOf('/', 8))
    if (path === '/') return new Response(hello)
    if (path === '/16k') return new Response(page)
    if (path === '/10m') return new Response(stream())
    if (path === '/post') return new Response(String((await request.arrayBuffer()).byteLength))
    if (path === '/echo') return echo()
    return new Response('no such page', { status: 404 })
  },
}
`

/** V8 flags as an instance has them, so that pauses for garbage are those of an instance. */
export async function startOrigin(directory: string): Promise<Origin> {
  const socketPath = join(directory, 'origin.sock')
  const port = await freePort()
  const config = `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = (modules = [(name = "main", esModule = embed "origin.js")], compatibilityDate = "2026-11-01"))],
  sockets = [
    (name = "unix", address = "unix:${socketPath}", http = (), service = "main"),
    (name = "tcp", address = "127.0.0.1:${port}", http = (), service = "main"),
  ],
  v8Flags = ["--max-semi-space-size=2", "--preconfigured-old-space-size=4"],
);
`
  writeFileSync(join(directory, 'origin.js'), SOURCE)
  writeFileSync(join(directory, 'origin.capnp'), config)
  const process = spawnProcess(workerdBinaryPath(), ['serve', join(directory, 'origin.capnp')])
  await waitForListener(process, { path: socketPath })
  await waitForListener(process, { host: '127.0.0.1', port })
  return { process, socketPath, port }
}
