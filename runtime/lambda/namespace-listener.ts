/**
 * Run by `nsenter` inside the network namespace of a container: listens where AWS's runtime clients look and hands the
 * socket, which stays in that namespace, to the process that started it. `node namespace-listener.ts WAIT_MS`
 */
import { createServer } from 'node:net'

const RETRY_MS = 50
const deadlineMs = performance.now() + Number(process.argv[2] ?? 0)
const server = createServer()

server.on('error', (error: NodeJS.ErrnoException) => {
  // A process that is just ending may still have the address.
  if (error.code === 'EADDRINUSE' && performance.now() < deadlineMs) setTimeout(listen, RETRY_MS)
  else fail(error.message)
})
server.on('listening', () => {
  if (process.send === undefined) fail('nobody takes the socket')
  else process.send('listening', server, undefined, () => process.exit(0))
})
listen()

function listen(): void {
  server.listen(9001, '127.0.0.1')
}

function fail(message: string): void {
  process.stderr.write(`${message}\n`)
  process.exit(1)
}
