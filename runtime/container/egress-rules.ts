/**
 * What a container with egress may reach, as rules of one chain, the first that fits decides. The same addresses are
 * refused to isolates by the egress proxy; blocks that the operator opened, and the node's own addresses, are read alike.
 */
import { IsolaError } from '../../sdk/model/errors.ts'

export interface EgressRulesOptions {
  /** Blocks that the operator opened. Those of IPv6 mean nothing here: the network has no IPv6. */
  readonly allowedCidrs: readonly string[]
  /** Of this node, beside those of its interfaces; e.g. the public one that its cloud translates. */
  readonly ownAddresses: readonly string[]
  /** Of the node. The engine asks them from inside the container's namespace. */
  readonly nameservers: readonly string[]
}

/** IANA's special blocks, and the metadata address of a cloud. */
const SPECIAL_BLOCKS = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '168.63.129.16/32',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4',
  '240.0.0.0/4',
] as const

/** Each as `iptables -S` would say it, without `-A` and the chain. Throws `invalid_argument` for what is no address. */
export function egressRules({
  allowedCidrs,
  ownAddresses,
  nameservers,
}: EgressRulesOptions): readonly string[] {
  const allowed = allowedCidrs.filter(isV4).map(readBlock)
  const own = ownAddresses.filter(isV4).map(readBlock)
  return [
    ...nameservers
      .map(readBlock)
      .flatMap((block) => [
        `-d ${block} -p udp -m udp --dport 53 -j RETURN`,
        `-d ${block} -p tcp -m tcp --dport 53 -j RETURN`,
      ]),
    // Only a block of exactly one address opens that of a node.
    ...allowed.filter((block) => block.endsWith('/32')).map((block) => `-d ${block} -j RETURN`),
    '-m addrtype --dst-type LOCAL -j DROP',
    ...own.map((block) => `-d ${block} -j DROP`),
    ...allowed.filter((block) => !block.endsWith('/32')).map((block) => `-d ${block} -j RETURN`),
    ...SPECIAL_BLOCKS.map((block) => `-d ${block} -j DROP`),
  ]
}

function isV4(text: string): boolean {
  return !text.includes(':')
}

const BLOCK = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:\/(\d{1,2}))?$/

/** With the bits beyond its prefix cleared, as the kernel has it. */
function readBlock(text: string): string {
  const [parts, prefix] = partsOf(text)
  if (parts === undefined || parts.some((part) => part > 255) || prefix > 32) {
    throw new IsolaError(
      'invalid_argument',
      `${JSON.stringify(text)} is not a block of addresses: write for example 10.1.0.0/16 or 10.1.2.3`,
    )
  }
  const address = parts.reduce((sum, part) => sum * 256 + part, 0)
  const first = address - (address % 2 ** (32 - prefix))
  const bytes = [24, 16, 8, 0].map((bits) => Math.floor(first / 2 ** bits) % 256)
  return `${bytes.join('.')}/${prefix}`
}

function partsOf(text: string): readonly [readonly number[] | undefined, number] {
  const found = BLOCK.exec(text)
  if (found === null) return [undefined, 0]
  return [found.slice(1, 5).map(Number), Number(found[5] ?? 32)]
}
