/** Connections for calls of methods, hop by hop: from workerd's place through the egress proxy, and through the router. */
import { once } from 'node:events'
import { createServer, connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { abortMessage, OpenQuestions } from '../../runtime/egress/rpc-messages.ts'
import { startEgress, sendRaw, type EgressUnderTest } from '../harness/egress.ts'
import { hello, startTestRouter } from '../harness/router-process.ts'
import { aFunction } from '../harness/snapshots.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

const OK = 'HTTP/1.1 200 OK\r\n\r\n'

/** A message of one segment, whose root has one word of data. */
function message(kind: number, { id = 0, words = 4 } = {}): Buffer {
  const bytes = Buffer.alloc(8 + 8 * words)
  bytes.writeUInt32LE(words, 4)
  bytes.writeUInt16LE(1, 12)
  bytes.writeUInt16LE(kind, 16)
  bytes.writeUInt32LE(id, 32)
  return bytes
}

const CALL = message(2)
const RETURN = message(3, { words: 50 })

/** Instance "i1" of "shop", which may call "stock", and an inner door that answers CONNECT with `answer`. */
async function open(answer: string): Promise<{ egress: EgressUnderTest; doors: Socket[]; heads: string[] }> {
  const egress = await startEgress({ limits: { rpcIdleMs: 50 } })
  cleanups.push(() => egress.close())
  await egress.proxy.handle({ type: 'assign', id: 'i1', functionName: 'shop', services: ['stock'] })
  const doors: Socket[] = []
  const heads: string[] = []
  const server = createServer((socket) => {
    doors.push(socket)
    socket.on('error', () => undefined)
    socket.once('data', (head) => {
      heads.push(head.toString('latin1'))
      if (answer.startsWith(OK)) socket.write(answer)
      else socket.end(answer)
    })
  })
  server.listen(join(egress.directory, 'invoke.sock'))
  await once(server, 'listening')
  cleanups.push(() => {
    for (const socket of doors) socket.destroy()
    server.close()
  })
  return { egress, doors, heads }
}

async function connectTo(egress: EgressUnderTest, host: string): Promise<Socket> {
  const socket = connect(egress.socketPath)
  cleanups.push(() => socket.destroy())
  socket.on('error', () => undefined)
  socket.write(`CONNECT ${host} HTTP/1.1\r\n\r\n`)
  const [head] = (await once(socket, 'data')) as [Buffer]
  expect(head.toString('latin1')).toBe(OK)
  return socket
}

describe('a connection for calls of methods through the egress proxy', () => {
  test('is asked of the inner door for the function alone, and carries bytes both ways', async () => {
    const { egress, doors, heads } = await open(OK)
    const socket = await connectTo(egress, 'isola-rpc.stock.0')
    expect(heads).toEqual(['CONNECT isola-rpc HTTP/1.1\r\nhost: isola-rpc\r\nisola-function: stock\r\n\r\n'])
    socket.write(CALL)
    expect(((await once(doors[0]!, 'data')) as [Buffer])[0]).toEqual(CALL)
    doors[0]!.write(RETURN)
    expect(((await once(socket, 'data')) as [Buffer])[0]).toEqual(RETURN)
  })

  test('stays while somebody waits for a return, and ends when nobody has for a while', async () => {
    const { egress, doors } = await open(OK)
    const socket = await connectTo(egress, 'isola-rpc.stock.0')
    let isClosed = false
    const closed = once(socket, 'close').then(() => (isClosed = true))
    socket.write(CALL)
    await once(doors[0]!, 'data')
    // One that was made afterwards has been idle for too long meanwhile.
    await once(await connectTo(egress, 'isola-rpc.stock.1'), 'close')
    expect(isClosed).toBe(false)
    doors[0]!.write(RETURN)
    await closed
  })

  test('ends on one side when the other side ends', async () => {
    const { egress, doors } = await open(OK)
    const near = await connectTo(egress, 'isola-rpc.stock.0')
    near.write(CALL)
    await once(doors[0]!, 'data')
    doors[0]!.destroy()
    await once(near, 'close')
    const other = await connectTo(egress, 'isola-rpc.stock.1')
    const gone = once(doors[1]!, 'close')
    doors[1]!.resume()
    other.destroy()
    await gone
  })

  test('that is refused is made and ended with words that the calls throw', async () => {
    const body = JSON.stringify({
      error: { code: 'queue_full', message: 'the queue is full', requestId: 'r' },
    })
    const { egress } = await open(
      `HTTP/1.1 429 Too Many Requests\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    )
    const answer = await sendRaw(egress.socketPath, 'CONNECT isola-rpc.stock.0 HTTP/1.1\r\n\r\n')
    expect(answer).toBe(OK + abortMessage('the queue is full').toString('latin1'))
  })

  test('to a function without a binding reaches no inner door', async () => {
    const { egress, heads } = await open(OK)
    for (const name of ['secret', 'constructor']) {
      const answer = await sendRaw(egress.socketPath, `CONNECT isola-rpc.${name}.0 HTTP/1.1\r\n\r\n`)
      expect(answer).toContain(`jsg.Error: function "shop" has no service binding for "${name}"`)
    }
    expect(heads).toEqual([])
  })

  test('without a router says so', async () => {
    const egress = await startEgress()
    cleanups.push(() => egress.close())
    await egress.proxy.handle({ type: 'assign', id: 'i1', functionName: 'shop', services: ['stock'] })
    const answer = await sendRaw(egress.socketPath, 'CONNECT isola-rpc.stock.0 HTTP/1.1\r\n\r\n')
    expect(answer).toContain('router has gone')
  })
})

describe('open questions', () => {
  test('are counted however the bytes are cut', () => {
    const questions = new OpenQuestions()
    const ask = questions.reader()
    const answer = questions.reader()
    for (const byte of Buffer.concat([
      message(8, { id: 1 }),
      CALL,
      message(2, { id: 2 }),
      message(2, { id: 3 }),
      message(4, { id: 3 }),
    ]))
      ask(Buffer.of(byte))
    answer(Buffer.concat([RETURN, message(3, { id: 1, words: 50 })]))
    expect(questions.some).toBe(true)
    answer(message(3, { id: 2 }))
    expect(questions.some).toBe(false)
  })

  test('are taken to be there where the bytes are of another kind', () => {
    for (const bytes of [Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.alloc(64)]) {
      const questions = new OpenQuestions()
      questions.reader()(bytes)
      expect(questions.some).toBe(true)
    }
  })
})

describe('a connection for calls of methods through the router', () => {
  test('is refused by name for a function in a container, and outside of the inner door', async () => {
    await using router = await startTestRouter()
    await router.apply([aFunction('boxed', { kind: 'container' }), hello()])
    const asked = 'CONNECT isola-rpc HTTP/1.1\r\nhost: isola-rpc\r\nisola-function: boxed\r\n\r\n'
    const answer = await sendRaw(join(router.directory, 'invoke.sock'), asked)
    expect(answer).toContain('upgrade_refused')
    expect(answer).toContain('runs in a container')
    const outside = connect(router.port, '127.0.0.1')
    cleanups.push(() => outside.destroy())
    outside.write(asked)
    expect(String(((await once(outside, 'data')) as [Buffer])[0])).toContain('405 Method Not Allowed')
  })

  test('to any other host is refused at the inner door, too', async () => {
    await using router = await startTestRouter()
    await router.apply()
    const asked = 'CONNECT other:80 HTTP/1.1\r\nhost: other\r\nisola-function: hello\r\n\r\n'
    expect(await sendRaw(join(router.directory, 'invoke.sock'), asked)).toContain('method_not_allowed')
  })
})
