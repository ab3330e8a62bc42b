/**
 * Which addresses a function may reach. Only the address that is really connected to is judged, never a spelling:
 * `0x7f.1`, `2130706433` and `localhost` all end as 127.0.0.1 before they come here.
 *
 * IPv6 is a list of what is allowed (2000::/3 less its special blocks), because what lies outside it is either not
 * routed or means something local; IPv4 has no such block, so there the special ones are listed (IANA registries).
 */
import ipaddr from 'ipaddr.js'
import { IsolaError } from '../../sdk/model/errors.ts'

type Address = ipaddr.IPv4 | ipaddr.IPv6
export type Cidr = readonly [Address, number]

export interface AddressPolicy {
  /** Blocks that the operator opened. */
  readonly allowed: readonly Cidr[]
  /** Addresses of this node, as `addressKey` spells them. Only a block of exactly that address opens one. */
  readonly own: ReadonlySet<string>
}

export type AddressVerdict =
  | { readonly allowed: true }
  /** `why` completes "it is …"; `cidr` is the block that would open this address and no other. */
  | { readonly allowed: false; readonly why: string; readonly cidr?: string }

const SPECIAL_V4 = compile([
  ['0.0.0.0/8', 'the unspecified address or "this network"'],
  ['10.0.0.0/8', 'a private address'],
  ['100.64.0.0/10', 'a shared (carrier-grade NAT) address'],
  ['127.0.0.0/8', 'a loopback address'],
  ['169.254.0.0/16', 'a link-local or metadata address'],
  ['172.16.0.0/12', 'a private address'],
  ['168.63.129.16/32', 'the metadata address of a cloud'],
  ['192.0.0.0/24', 'a protocol assignment address'],
  ['192.0.2.0/24', 'a documentation address'],
  ['192.88.99.0/24', 'a 6to4 relay address'],
  ['192.168.0.0/16', 'a private address'],
  ['198.18.0.0/15', 'a benchmark address'],
  ['198.51.100.0/24', 'a documentation address'],
  ['203.0.113.0/24', 'a documentation address'],
  ['224.0.0.0/4', 'a multicast address'],
  ['255.255.255.255/32', 'the broadcast address'],
  ['240.0.0.0/4', 'a reserved address'],
])

const GLOBAL_V6 = ipaddr.parseCIDR('2000::/3')
const NAT64 = ipaddr.parseCIDR('64:ff9b::/96')
const SPECIAL_V6 = compile([
  ['2001::/23', 'a protocol assignment address (Teredo, benchmark, ORCHID)'],
  ['2001:db8::/32', 'a documentation address'],
  ['2002::/16', 'a 6to4 address'],
  ['3fff::/20', 'a documentation address'],
  ['::1/128', 'a loopback address'],
  ['::/128', 'the unspecified address'],
  ['fc00::/7', 'a private (unique local) address'],
  ['fe80::/10', 'a link-local address'],
  ['ff00::/8', 'a multicast address'],
])

/** Judges one address as `dns.lookup` gives it. What cannot be read is refused. */
export function classifyAddress(text: string, policy: AddressPolicy): AddressVerdict {
  const address = readAddress(text)
  if (address === undefined) return { allowed: false, why: `not an address (${JSON.stringify(text)})` }
  const bits = address.kind() === 'ipv4' ? 32 : 128
  const cidr = `${address.toString()}/${bits}`
  const isOwn = policy.own.has(address.toString())
  for (const block of policy.allowed) {
    if (isOwn && block[1] !== bits) continue
    if (contains(block, address)) return { allowed: true }
  }
  if (isOwn) return { allowed: false, why: 'an address of this node', cidr }
  const why = special(address, policy.own)
  return why === undefined ? { allowed: true } : { allowed: false, why, cidr }
}

/** Why an address is not public; `undefined` for a public one. */
function special(address: Address, own: ReadonlySet<string>): string | undefined {
  const table = address.kind() === 'ipv4' ? SPECIAL_V4 : SPECIAL_V6
  const found = table.find(({ block }) => contains(block, address))
  if (found !== undefined) return found.why
  if (address.kind() === 'ipv4' || contains(GLOBAL_V6, address)) return undefined
  if (!contains(NAT64, address)) return 'an address outside the public internet'
  // On an IPv6-only network this prefix is how every IPv4 server is reached, so it is as good as what it carries.
  const carried = new ipaddr.IPv4(address.toByteArray().slice(12))
  if (own.has(carried.toString())) return 'an address of this node inside NAT64'
  const why = special(carried, own)
  return why === undefined ? undefined : `${why} inside NAT64`
}

/** The one spelling of an address; `undefined` for what is none. IPv4-mapped addresses are the IPv4 ones. */
export function addressKey(text: string): string | undefined {
  return readAddress(text)?.toString()
}

/** Loopback is refused as such, so it is not counted among a node's own addresses. */
export function isLoopback(text: string): boolean {
  const range = readAddress(text)?.range()
  return range === 'loopback'
}

/** `10.1.0.0/16`, `fd00::/8`, or one address. Throws `invalid_argument`. */
export function parseCidr(text: string): Cidr {
  const bits = text.includes(':') ? 128 : 32
  const [block, prefix] = readCidr(text.includes('/') ? text : `${text}/${bits}`) ?? []
  const fourParts = bits === 128 || /^\d+\.\d+\.\d+\.\d+(?:\/\d+)?$/.test(text)
  if (block === undefined || prefix === undefined || !fourParts) {
    throw new IsolaError(
      'invalid_argument',
      `${JSON.stringify(text)} is not a block of addresses: write for example 10.1.0.0/16, 10.1.2.3 or fd12::/16`,
    )
  }
  if (block instanceof ipaddr.IPv6 && block.isIPv4MappedAddress() && prefix >= 96) {
    return [block.toIPv4Address(), prefix - 96]
  }
  return [block, prefix]
}

function readCidr(text: string): [Address, number] | undefined {
  const [block = '', ...prefix] = text.split('/')
  try {
    return ipaddr.parseCIDR(`${inGroups(block)}/${prefix.join('/')}`)
  } catch {
    return undefined
  }
}

function readAddress(text: string): Address | undefined {
  const zone = text.indexOf('%')
  const bare = inGroups(zone === -1 ? text : text.slice(0, zone))
  return ipaddr.isValid(bare) ? ipaddr.process(bare) : undefined
}

/** ipaddr.js reads `::1.2.3.4` as `::ffff:1.2.3.4`, which is another address; so it is shown IPv6 as groups only. */
function inGroups(text: string): string {
  if (!text.includes(':') || !text.includes('.') || !URL.canParse(`http://[${text}]`)) return text
  return new URL(`http://[${text}]`).hostname.slice(1, -1)
}

function contains(block: Cidr, address: Address): boolean {
  return block[0].kind() === address.kind() && address.match(block[0], block[1])
}

function compile(rows: readonly (readonly [string, string])[]): { block: Cidr; why: string }[] {
  return rows.map(([text, why]) => ({ block: ipaddr.parseCIDR(text), why }))
}
