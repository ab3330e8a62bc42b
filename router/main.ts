/** `node router/main.ts --socket PATH --http HOST:PORT [--reuse-port] [--trusted-proxies CIDR,…] [--limit NAME=NUMBER]…` */
import { parseArgs } from 'node:util'
import { IsolaError } from '../sdk/model/errors.ts'
import { ROUTER_LIMITS, type RouterLimits } from '../sdk/model/limits.ts'
import { parseTrustedProxies } from './client.ts'
import { runRouter } from './router-process.ts'

try {
  const { values } = parseArgs({
    options: {
      socket: { type: 'string' },
      http: { type: 'string', default: '127.0.0.1:8080' },
      'reuse-port': { type: 'boolean', default: false },
      'trusted-proxies': { type: 'string', default: '' },
      limit: { type: 'string', multiple: true, default: [] },
    },
  })
  if (values.socket === undefined)
    throw new IsolaError('usage', '--socket is missing: give the path to listen on for the agent')
  await runRouter({
    controlSocketPath: values.socket,
    ...parseAddress(values.http),
    reusePort: values['reuse-port'],
    proxies: parseTrustedProxies(values['trusted-proxies']),
    limits: parseLimits(values.limit),
    warn: (message) => console.error(`router: ${message}`),
  })
  process.exit(0)
} catch (error) {
  console.error(`router: ${error instanceof Error ? error.message : String(error)}`)
  process.exit(1)
}

function parseAddress(text: string): { host: string; port: number } {
  const colon = text.lastIndexOf(':')
  const port = Number(text.slice(colon + 1))
  const host = text.slice(0, Math.max(colon, 0)).replace(/^\[(.*)\]$/, '$1')
  if (host === '' || text.endsWith(':') || !Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new IsolaError(
      'usage',
      `--http ${JSON.stringify(text)} is no address: write HOST:PORT, e.g. 0.0.0.0:8080 or [::]:8080`,
    )
  }
  return { host, port }
}

function parseLimits(texts: readonly string[]): RouterLimits {
  const limits: Record<string, number> = { ...ROUTER_LIMITS }
  for (const text of texts) {
    const [name = '', number] = text.split('=')
    const value = Number(number)
    if (!Object.hasOwn(ROUTER_LIMITS, name) || !Number.isSafeInteger(value) || value < 1) {
      throw new IsolaError(
        'usage',
        `--limit ${JSON.stringify(text)} is not usable: write NAME=NUMBER with one of ${Object.keys(ROUTER_LIMITS).join(', ')}`,
      )
    }
    limits[name] = value
  }
  return limits as RouterLimits
}
