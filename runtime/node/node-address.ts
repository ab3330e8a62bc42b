import { networkInterfaces } from 'node:os'
import { IsolaError } from '../../sdk/model/errors.ts'

export interface Address {
  readonly host: string
  readonly port: number
}

export function parseAddress(text: string, flag: string): Address {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text)
  const port = Number(match?.[3])
  if (match === null || port > 65_535) {
    throw new IsolaError(
      'invalid_argument',
      `${flag} ${JSON.stringify(text)} is no address: write HOST:PORT, e.g. 127.0.0.1:8080`,
    )
  }
  return { host: match[1] ?? match[2] ?? '', port }
}

/** An address that a client on this machine can use: the wildcard addresses are not. */
export function urlHost(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1'
  if (host === '::') return '[::1]'
  return host.includes(':') ? `[${host}]` : host
}

export function ownAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap(
    (addresses) => addresses?.map(({ address }) => address) ?? [],
  )
}
