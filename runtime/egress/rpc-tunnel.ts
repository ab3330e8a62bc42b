/**
 * A connection for calls of a function's methods: from an instance to the router's inner door, and by it to an instance
 * of the callee, whose slot it holds. What goes wrong on the way cannot be answered as a response, since workerd would
 * keep its words from the function: so the connection is made, and ended with a message that its calls throw.
 */
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { ERRORS, IsolaError, isIsolaError, type ErrorBody, type ErrorCode } from '../../sdk/model/errors.ts'
import { INNER_DOOR_HEADERS, RPC_HOST } from '../pool/inner-door.ts'
import type { EgressLimits } from './egress-limits.ts'
import { abortMessage, OpenQuestions } from './rpc-messages.ts'

export interface RpcTunnelOptions {
  /** The callee. */
  readonly functionName: string
  /** The instance's side, and what was read of it beyond the head. */
  readonly socket: Duplex
  readonly head: Buffer
  /** To the inner door. */
  readonly connect: () => Promise<Socket>
  /** What went wrong, as one of our errors. */
  readonly toError: (error: unknown) => IsolaError
  readonly limits: EgressLimits
  readonly onError: (error: IsolaError) => void
}

/** Never throws. */
export async function tunnelRpc(options: RpcTunnelOptions): Promise<void> {
  const { functionName, socket, head, onError, toError, limits } = options
  let upstream: Socket
  try {
    upstream = await options.connect()
  } catch (error) {
    abortRpc(socket, toError(error))
    return
  }
  socket.once('close', () => upstream.destroy())
  if (socket.destroyed) {
    upstream.destroy()
    return
  }
  upstream.write(
    `CONNECT ${RPC_HOST} HTTP/1.1\r\nhost: ${RPC_HOST}\r\n${INNER_DOOR_HEADERS.functionName}: ${functionName}\r\n\r\n`,
  )
  try {
    const rest = await readAnswer(upstream, limits.headBytesMax)
    socket.write(ESTABLISHED)
    const { rpcIdleMs: idleMs, tunnelIdleTimeoutMs: silentMs } = limits
    join({ socket, upstream, sent: head, received: rest, idleMs, silentMs })
  } catch (error) {
    upstream.destroy()
    const failure = toError(error)
    onError(failure)
    abortRpc(socket, failure)
  }
}

/** Instead of a connection: calls on it throw the error's words. */
export function abortRpc(socket: Duplex, { message }: IsolaError): void {
  if (socket.destroyed) return
  socket.write(ESTABLISHED)
  socket.end(abortMessage(message))
  // What the instance still sends is in vain, and the end is to be read behind it.
  socket.resume()
}

const ESTABLISHED = 'HTTP/1.1 200 OK\r\n\r\n'

/** What follows the head of the inner door's consent; throws its refusal. */
async function readAnswer(upstream: Socket, bytesMax: number): Promise<Buffer> {
  let read = Buffer.alloc(0)
  let refused = false
  return new Promise((resolve, reject) => {
    const onData = (chunk: Buffer): void => {
      read = Buffer.concat([read, chunk])
      const end = read.indexOf('\r\n\r\n')
      if (!refused && end !== -1) {
        refused = !read.subarray(0, 13).toString('latin1').startsWith('HTTP/1.1 200 ')
        if (!refused) {
          upstream.off('data', onData)
          upstream.off('close', onClose)
          upstream.pause()
          resolve(read.subarray(end + 4))
          return
        }
      }
      if (read.length > bytesMax) upstream.destroy()
    }
    // A refusal is the last answer on its connection.
    const onClose = (): void => reject(refused ? refusalOf(read) : new Error('closed before an answer'))
    upstream.on('data', onData)
    upstream.once('close', onClose)
  })
}

function refusalOf(answer: Buffer): unknown {
  try {
    const text = answer.subarray(answer.indexOf('\r\n\r\n') + 4).toString()
    const { error } = JSON.parse(text) as ErrorBody
    const code: string = error.code
    if (Object.hasOwn(ERRORS, code)) return new IsolaError(code as ErrorCode, error.message)
  } catch (error) {
    if (isIsolaError(error)) return error
  }
  return new Error('an answer that is none')
}

function join({
  socket,
  upstream,
  sent,
  received,
  idleMs,
  silentMs,
}: {
  readonly socket: Duplex
  readonly upstream: Socket
  readonly sent: Buffer
  readonly received: Buffer
  readonly idleMs: number
  /** Without a byte either way, whoever waits. */
  readonly silentMs: number
}): void {
  const questions = new OpenQuestions()
  let movedAtMs = performance.now()
  const idle = setTimeout(() => {
    if (questions.some && performance.now() - movedAtMs < silentMs) idle.refresh()
    else upstream.destroy()
  }, idleMs)
  const pass = (from: Duplex, to: Duplex, first: Buffer): void => {
    const read = questions.reader()
    const onData = (chunk: Buffer): void => {
      movedAtMs = performance.now()
      idle.refresh()
      read(chunk)
      if (!to.write(chunk)) from.pause()
    }
    if (first.length > 0) onData(first)
    from.on('data', onData)
    to.on('drain', () => from.resume())
    from.on('error', () => from.destroy())
    from.on('close', () => {
      clearTimeout(idle)
      // What came before the end is still delivered; nothing can follow it.
      if (to.writable) to.end()
      setTimeout(() => to.destroy(), idleMs).unref()
    })
    from.on('end', () => from.destroy())
    from.resume()
  }
  pass(socket, upstream, sent)
  pass(upstream, socket, received)
}
