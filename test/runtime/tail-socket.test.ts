/** Clients of a tail's socket that do not go, or do not listen. */
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { text } from 'node:stream/consumers'
import { afterEach, expect, test } from 'vitest'
import { OPCODE, serverFrame } from '../../runtime/node/tail/frame-reader.ts'
import { openServerSocket, refuseUpgrade } from '../../runtime/node/tail/server-socket.ts'
import { TAIL_LIMITS } from '../../sdk/model/limits.ts'

const HANDSHAKE =
  'GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n' +
  'sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n'

const servers: Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) server.close()
})

async function connected(
  take: (upgrade: { request: IncomingMessage; socket: Duplex; head: Buffer }) => void,
): Promise<Socket> {
  const server = createServer()
  servers.push(server)
  server.on('upgrade', (request, socket, head) => take({ request, socket, head }))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const socket = connect({ port: (server.address() as AddressInfo).port, allowHalfOpen: true })
  socket.on('error', () => undefined)
  socket.write(HANDSHAKE)
  return socket
}

test('a refused client that never ends its side does not keep the connection', async () => {
  const closed = Promise.withResolvers<undefined>()
  const client = await connected(({ socket }) => {
    socket.once('close', () => closed.resolve(undefined))
    refuseUpgrade(socket, { status: '404 Not Found', message: 'no such tail' })
  })
  expect(await text(client)).toMatch(/^HTTP\/1.1 404 /)
  expect(client.writable).toBe(true)
  await closed.promise
  client.destroy()
})

test('a client that sends pings and reads no pongs gets no more of them than fit', async () => {
  const opened = Promise.withResolvers<Duplex>()
  const client = await connected((upgrade) => {
    const handlers = { onText: () => undefined, onDrain: () => undefined, onClose: () => undefined }
    openServerSocket(upgrade, { protocol: 'trace-v1', ...handlers })
    opened.resolve(upgrade.socket)
  })
  const socket = await opened.promise
  client.pause()
  const pings = Buffer.concat(
    Array.from({ length: 8_000 }, () => serverFrame(OPCODE.ping, Buffer.alloc(125))),
  )
  for (let sent = 0; sent < 30; sent++) await new Promise((resolve) => client.write(pings, resolve))
  expect(socket.writableLength).toBeGreaterThan(0)
  expect(socket.writableLength).toBeLessThan(2 * TAIL_LIMITS.bufferedBytesMax)
  client.destroy()
})
