import { createHash } from 'node:crypto'

/** The last two labels of a host: it matters to nobody but who reads it. */
export function zoneNameOf(host: string): string {
  return host.split('.').slice(-2).join('.')
}

export function zoneId(name: string): string {
  return createHash('sha256').update(`zone ${name}`).digest('hex').slice(0, 32)
}
