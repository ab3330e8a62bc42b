/**
 * What the instance learns about the client. `x-forwarded-for` of a client that is not one of our proxies is
 * overwritten, never added to: a function would take the first entry for the truth. The client's address is the last
 * one in the chain that is not one of our own proxies.
 */
import { isIP } from 'node:net'
import { INSTANCE_HEADERS } from '../runtime/pool/driver.ts'
import type { Client, TrustedProxies } from './client.ts'

/** What a trusted proxy said. */
export interface ForwardedHeaders {
  for: string | undefined
  host: string | undefined
  proto: string | undefined
  /** Other header lines about the client, copied. */
  others: string
}

export function forwardedLines(
  client: Client,
  hostHeader: string,
  said: ForwardedHeaders | undefined,
): string {
  if (said === undefined) return `${client.forwardedLines}x-forwarded-host: ${hostHeader}\r\n`
  const chain = said.for === undefined ? client.address : `${said.for}, ${client.address}`
  const proto = said.proto?.toLowerCase() === 'https' ? 'https' : 'http'
  return (
    addressLines({ chain, address: clientAddress(chain, client.proxies), proto }) +
    `x-forwarded-host: ${said.host ?? hostHeader}\r\n${said.others}`
  )
}

/** The lines of a client that speaks for itself: made once a connection. */
export function directLines(address: string): string {
  return addressLines({ chain: address, address, proto: 'http' })
}

interface Addresses {
  readonly chain: string
  readonly address: string
  readonly proto: 'http' | 'https'
}

function addressLines({ chain, address, proto }: Addresses): string {
  return (
    `x-forwarded-for: ${chain}\r\nx-forwarded-proto: ${proto}\r\n` +
    `x-real-ip: ${address}\r\ncf-connecting-ip: ${address}\r\n${INSTANCE_HEADERS.proto}: ${proto}\r\n`
  )
}

function clientAddress(chain: string, proxies: TrustedProxies): string {
  const hops = chain.split(',').map((hop) => hop.trim())
  let address = hops.at(-1)!
  for (const hop of hops.reverse()) {
    if (isIP(hop) === 0) break
    address = hop
    if (!proxies.includes(hop)) break
  }
  return address
}
