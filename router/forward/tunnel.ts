/**
 * The client's side of a WebSocket. Until the instance has accepted the handshake, what the client sends is kept
 * (bounded), never passed on: an instance that answers with anything but 101 would read it as another request.
 */
import type { Socket } from 'node:net'
import type { ResponseHead } from './response-head.ts'

export interface TunnelOpening {
  /** Head of the 101 response. */
  readonly text: string
  /** What the instance has already sent behind it. */
  readonly rest: Buffer
  readonly instance: Socket
}

export class TunnelEnd {
  readonly #client: Socket
  readonly #early: Buffer[] = []
  #earlyBytes: number
  #instance: Socket | undefined

  /** `head`: what came behind the handshake. */
  constructor(
    client: Socket,
    options: { readonly head: Buffer; readonly earlyBytesMax: number; readonly lingerMs: number },
  ) {
    this.#client = client
    this.#early.push(options.head)
    this.#earlyBytes = options.head.length
    // node:http has let go of the connection, its error listener included.
    client.on('error', () => client.destroy())
    client.on('end', () => {
      // Before the tunnel is open as well as after: a client that has said all is gone.
      if (this.#instance === undefined) client.destroy()
      else this.#instance.end()
      // A function without a close handler never answers the end, and would keep the slot for ever.
      setTimeout(() => client.destroy(), options.lingerMs).unref()
    })
    client.on('data', (chunk: Buffer) => {
      if (this.#instance !== undefined) {
        if (!this.#instance.write(chunk)) client.pause()
        return
      }
      this.#early.push(chunk)
      this.#earlyBytes += chunk.length
      // No client may send before the 101 (RFC 6455 §4.1); one that floods is not waited for.
      if (this.#earlyBytes > options.earlyBytesMax) client.destroy()
    })
  }

  open({ text, rest, instance }: TunnelOpening): void {
    const client = this.#client
    this.#instance = instance
    client.cork()
    client.write(text, 'latin1')
    if (rest.length > 0) client.write(rest)
    client.uncork()
    instance.on('drain', () => client.resume())
    for (const chunk of this.#early.splice(0)) if (chunk.length > 0) instance.write(chunk)
    if (!instance.writableNeedDrain) client.resume()
  }

  /** False where the client reads too slowly. */
  write(chunk: Buffer): boolean {
    return this.#client.write(chunk)
  }

  /** The instance has closed: what it sent still goes out. */
  end(): void {
    this.#client.destroySoon()
  }
}

/** The answer to CONNECT. */
export const ESTABLISHED = 'HTTP/1.1 200 OK\r\n\r\n'

/** `undefined` where the response does not accept the handshake or has a header that cannot be one. */
export function switchingText(
  head: ResponseHead,
  added: Readonly<Record<string, string>>,
): string | undefined {
  let accepted = false
  let text = 'HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n'
  for (let index = 0; index < head.headers.length; index += 2) {
    const name = head.headers[index]!
    const value = head.headers[index + 1]!
    if (!NAME.test(name) || !VALUE.test(value)) return undefined
    if (name.toLowerCase() === 'sec-websocket-accept') accepted = true
    text += `${name}: ${value}\r\n`
  }
  for (const [name, value] of Object.entries(added)) text += `${name}: ${value}\r\n`
  return accepted ? `${text}\r\n` : undefined
}

const NAME = /^[!#$%&'*+\-.^_`|~\w]+$/
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/
