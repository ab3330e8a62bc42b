import { createServer } from 'node:net'
import { usageError } from './parse-arguments.ts'

export interface Address {
  readonly host: string
  readonly port: number
}

export const DEFAULT_HTTP = '127.0.0.1:8080'
export const DEFAULT_CONTROL = '127.0.0.1:8081'

/** `HOST:PORT`, `[::1]:PORT` for IPv6; port 0 is "any free one". Throws `usage` that names the flag. */
export function parseAddress(text: string, flagName: string): Address {
  const match = /^(\[[0-9a-fA-F:.]+\]|[^:[\]/\s]+):(\d{1,5})$/.exec(text)
  const port = Number(match?.[2])
  if (match?.[1] !== undefined && port <= 65_535) return { host: match[1].replaceAll(/[[\]]/g, ''), port }
  throw usageError(
    `--${flagName} is ${JSON.stringify(text)}: give HOST:PORT, e.g. 127.0.0.1:8080 or 0.0.0.0:80`,
  )
}

/** `undefined` where the address can be listened on. */
export function bindError({ host, port }: Address): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    server.listen(port, host, () => server.close(() => resolve(undefined)))
  })
}
