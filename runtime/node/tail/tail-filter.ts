import type { TailFilter } from '../../../wrangler-compat/api/ports.ts'
import type { Traced } from './trace-assembly.ts'

/** Of who watches. */
export interface Watcher {
  /** As its connection has it. */
  readonly clientIp: string
  /** 0 to 1, another each time. */
  random(): number
}

/** Whether an event is among those that were asked for. What is hidden in events is compared as it was sent. */
export function passes(filter: TailFilter, traced: Traced, watcher: Watcher): boolean {
  const { event, request, versionId } = traced
  const { outcomes, methods, headers, clientIps, text, samplingRate } = filter
  if (filter.versionId !== undefined && filter.versionId !== versionId) return false
  if (outcomes !== undefined && !outcomes.includes(event.outcome)) return false
  if (methods !== undefined && (request === undefined || !methods.includes(request.method))) return false
  if (headers !== undefined && !headers.every((header) => hasHeader(traced, header))) return false
  if (clientIps !== undefined && !isFrom(traced, clientIps, watcher)) return false
  if (text !== undefined && !mentions(traced, text)) return false
  return samplingRate === undefined || watcher.random() < samplingRate
}

function hasHeader(
  { request }: Traced,
  { name, text }: { readonly name: string; readonly text?: string },
): boolean {
  const value = request?.headers.get(name)
  return value !== undefined && (text === undefined || value.includes(text))
}

function isFrom({ request }: Traced, clientIps: readonly string[], watcher: Watcher): boolean {
  if (request?.clientIp === undefined) return false
  const clientIp = plainIp(request.clientIp)
  return clientIps.some((ip) => plainIp(ip === 'self' ? watcher.clientIp : ip) === clientIp)
}

/** One spelling of an address: a machine is the same by both of its loopback addresses, and IPv4 within IPv6. */
function plainIp(ip: string): string {
  const plain = ip.toLowerCase().replace(/^::ffff:(?=\d+\.)/, '')
  return plain === '::1' ? '127.0.0.1' : plain
}

function mentions({ event }: Traced, text: string): boolean {
  const isIn = (value: unknown): boolean =>
    (typeof value === 'string' ? value : (JSON.stringify(value) ?? '')).includes(text)
  return (
    event.logs.some(({ message }) => message.some(isIn)) ||
    event.exceptions.some((thrown) => isIn(thrown.message))
  )
}
