import { request } from 'node:http'

export interface StreamsResult {
  readonly whole: number
  readonly broken: readonly string[]
}

/** Keeps so many long responses open one after the other until told to stop; each must arrive whole. */
export function keepStreaming(options: {
  readonly where: { readonly host: string; readonly port: number }
  readonly hostHeader: string
  readonly path: string
  readonly streams: number
  /** How a whole body ends. */
  readonly ending: string
}): { stop(): Promise<StreamsResult> } {
  const stopping = new AbortController()
  let whole = 0
  const broken: string[] = []
  const one = (): Promise<void> =>
    new Promise((resolve) => {
      const failed = (reason: string): void => {
        broken.push(reason)
        resolve()
      }
      const outgoing = request(
        { ...options.where, path: options.path, headers: { host: options.hostHeader }, agent: false },
        (incoming) => {
          let text = ''
          incoming.on('data', (chunk: Buffer) => (text += chunk.toString()))
          incoming.on('error', (error) => failed(`${error.message} after ${text.length} bytes`))
          incoming.on('end', () => {
            if (incoming.statusCode !== 200 || !text.endsWith(options.ending)) {
              failed(`status ${incoming.statusCode}, ${text.length} bytes: ${text.slice(-80)}`)
              return
            }
            whole++
            resolve()
          })
        },
      )
      outgoing.on('error', (error) => failed(error.message))
      outgoing.end()
    })
  const loops = Array.from({ length: options.streams }, async () => {
    while (!stopping.signal.aborted) await one()
  })
  return {
    async stop() {
      stopping.abort()
      await Promise.all(loops)
      return { whole, broken }
    },
  }
}
