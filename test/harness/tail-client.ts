/** A client of the tail protocol as wrangler is one: its first message is not masked. */
import { once } from 'node:events'
import { WebSocket } from 'ws'
import type { TraceEvent } from '../../runtime/node/tail/trace-event.ts'

export interface TailClient {
  readonly socket: WebSocket
  readonly events: readonly TraceEvent[]
  /** The first event, past or to come, that fits. */
  event(fits: (event: TraceEvent) => boolean): Promise<TraceEvent>
  /** Of its first line, as text. */
  firstLines(): readonly string[]
  closed(): Promise<{ readonly code: number; readonly reason: string }>
  [Symbol.dispose](): void
}

export async function connectTail(
  url: string,
  options: { readonly debug?: boolean; readonly protocols?: string[] } = {},
): Promise<TailClient> {
  const socket = new WebSocket(url, options.protocols ?? ['trace-v1'], {
    headers: { 'user-agent': 'wrangler/4.164.0' },
  })
  const events: TraceEvent[] = []
  const waiting = new Set<() => void>()
  const ended = new Promise<{ code: number; reason: string }>((resolve) => {
    socket.once('close', (code, reason: Buffer) => resolve({ code, reason: reason.toString() }))
  })
  socket.on('message', (data: Buffer, isBinary) => {
    if (isBinary) throw new Error('trace events are text')
    events.push(JSON.parse(data.toString()) as TraceEvent)
    for (const look of waiting) look()
  })
  await once(socket, 'open')
  socket.send(JSON.stringify({ debug: options.debug ?? false }), {
    binary: false,
    compress: false,
    mask: false,
    fin: true,
  })
  // Answered in order: what was said before is known by then.
  const pong = once(socket, 'pong')
  socket.ping('wrangler tail ping')
  const [payload] = (await pong) as [Buffer]
  if (payload.toString() !== 'wrangler tail ping') throw new Error(`the pong carries ${payload.toString()}`)
  return {
    socket,
    events,
    event: (fits) =>
      new Promise((resolve) => {
        const look = (): void => {
          const found = events.find(fits)
          if (found === undefined) return
          waiting.delete(look)
          resolve(found)
        }
        waiting.add(look)
        look()
      }),
    firstLines: () => events.map(({ logs }) => String(logs[0]?.message[0])),
    closed: () => ended,
    [Symbol.dispose]: () => socket.terminate(),
  }
}

/** The HTTP status that a handshake is refused with. */
export function refusedHandshake(url: string, protocols: string[] = ['trace-v1']): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, protocols)
    socket.on('unexpected-response', (request, response) => {
      resolve(response.statusCode ?? 0)
      request.destroy()
    })
    socket.on('open', () => {
      socket.terminate()
      reject(new Error('the handshake was taken'))
    })
    socket.on('error', () => undefined)
  })
}
