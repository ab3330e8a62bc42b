import { once } from 'node:events'
import { connect, type NetConnectOpts } from 'node:net'

export interface FirstAnswer {
  /** From the first byte sent, over an open connection, to the first of the answer. */
  readonly ms: number
  readonly status: number
  /** Head and body as they came. */
  readonly text: string
}

/** One request on a connection of its own. Throws if it ends without an answer. */
export async function firstAnswer(where: NetConnectOpts, host: string, path = '/'): Promise<FirstAnswer> {
  const socket = connect({ ...where, noDelay: true } as NetConnectOpts)
  try {
    await once(socket, 'connect')
    let text = ''
    let ms = Number.NaN
    const beganMs = performance.now()
    socket.on('data', (chunk: Buffer) => {
      if (text === '') ms = performance.now() - beganMs
      text += chunk.toString('latin1')
    })
    socket.write(`GET ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`)
    await once(socket, 'end')
    if (text === '') throw new Error(`${host}${path}: the connection ended without an answer`)
    return { ms, status: Number(text.slice(9, 12)), text }
  } finally {
    socket.destroy()
  }
}
