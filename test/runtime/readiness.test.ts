import { createServer } from 'node:net'
import { expect, test } from 'vitest'
import { listensOn, whenPortListens } from '../../runtime/container/readiness.ts'

const row = (local: string, state: string): string =>
  `  sl  local_address rem_address   st\n   0: ${local} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000     0        0 1 1\n`

test('a listener on any address or on loopback counts, of IPv4 and of IPv6', () => {
  expect(listensOn(row('00000000:1F90', '0A'), 8080)).toBe(true)
  expect(listensOn(row('0100007F:1F90', '0A'), 8080)).toBe(true)
  expect(listensOn(row(`${'0'.repeat(32)}:1F90`, '0A'), 8080)).toBe(true)
  expect(listensOn(row('0000000000000000FFFF00000100007F:0050', '0A'), 80)).toBe(true)
})

test('another port, a connection and a listener that loopback does not reach do not count', () => {
  expect(listensOn(row('00000000:1F91', '0A'), 8080)).toBe(false)
  expect(listensOn(row('0100007F:1F90', '01'), 8080)).toBe(false)
  expect(listensOn(row('020011AC:1F90', '0A'), 8080)).toBe(false)
  expect(listensOn(row('00000000000000000000000001000000:1F90', '0A'), 8080)).toBe(false)
  expect(listensOn('', 8080)).toBe(false)
})

test('resolves when the port is opened, and not before', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  let isOpen = false
  const waiting = whenPortListens({ pid: process.pid, port, signal: AbortSignal.timeout(20_000) }).then(
    () => isOpen,
  )
  const again = createServer().listen(port, '127.0.0.1', () => (isOpen = true))
  expect(await waiting).toBe(true)
  again.close()
})

test('ends with the reason of whoever does not want to wait any more', async () => {
  const signal = AbortSignal.abort(new Error('enough'))
  await expect(whenPortListens({ pid: process.pid, port: 1, signal })).rejects.toThrow('enough')
})

test('a process that is gone is no wait without end', async () => {
  const pid = 2 ** 22 + 1
  await expect(whenPortListens({ pid, port: 1, signal: AbortSignal.timeout(20_000) })).rejects.toMatchObject({
    code: 'internal',
  })
})
