import * as fc from 'fast-check'
import { BlockList, isIPv6 } from 'node:net'
import { networkInterfaces } from 'node:os'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { addressKey, classifyAddress, parseCidr, type AddressPolicy } from '../../runtime/egress/addresses.ts'
import { parseAuthority, parseTarget } from '../../runtime/egress/target.ts'
import { isIsolaError } from '../../sdk/model/errors.ts'
import { errorOf, send, sendRaw, startEgress, type EgressUnderTest } from '../harness/egress.ts'

const OWN = ['93.184.215.14', '2606:2800:21f:cb07::1']
const CLOSED: AddressPolicy = { allowed: [], own: new Set(OWN) }

/** One of each special block, first and last addresses included. */
const REFUSED_ADDRESSES = `
  0.0.0.0 0.0.0.1 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 100.100.100.200
  127.0.0.0 127.0.0.1 127.255.255.255 168.63.129.16 169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.0
  172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.0 192.168.255.255 198.18.0.1 198.19.255.255
  198.51.100.7 203.0.113.7 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.254 255.255.255.255 :: ::1
  ::127.0.0.1 ::10.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:10.1.2.3 ::ffff:169.254.169.254
  ::ffff:0.0.0.0 ::ffff:0:127.0.0.1 64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b::10.0.0.1
  64:ff9b:1::8.8.8.8 100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:20::1
  2001:db8::1 2002:7f00:1:: 2002:a00:1::1 2002:808:808::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254
  fd20:ce::254 fdff:ffff::1 fe80::1 fe80::1%lo febf::1 fec0::1 ff02::1 ff0e::1 4000::1 e000::1
  ::ffff:93.184.215.14 64:ff9b::93.184.215.14 nonsense
`
  .trim()
  .split(/\s+/)
  .concat(OWN, '')

const PUBLIC_ADDRESSES = `
  1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 168.63.129.17
  169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.167.255.255 192.169.0.0 198.17.255.255
  198.20.0.0 223.255.255.255 2001:200::1 2001:4860:4860::8888 2003::1 2600::1 2a00:1450::1 3ffe::1
  ::ffff:8.8.8.8 64:ff9b::8.8.8.8
`
  .trim()
  .split(/\s+/)

describe('an address', () => {
  test.each(REFUSED_ADDRESSES)('%j is refused', (address) => {
    expect(classifyAddress(address, CLOSED)).toMatchObject({ allowed: false })
  })

  test.each(PUBLIC_ADDRESSES)('%s is public', (address) => {
    expect(classifyAddress(address, CLOSED)).toEqual({ allowed: true })
  })

  test('is refused with the block that would open it and no other', () => {
    const verdict = classifyAddress('::ffff:10.1.2.3', CLOSED)
    expect(verdict).toEqual({ allowed: false, why: 'a private address', cidr: '10.1.2.3/32' })
    const opened: AddressPolicy = { allowed: [parseCidr('10.1.2.3/32')], own: new Set() }
    expect(classifyAddress('10.1.2.3', opened)).toEqual({ allowed: true })
    expect(classifyAddress('::ffff:a01:203', opened)).toEqual({ allowed: true })
    expect(classifyAddress('10.1.2.4', opened)).toMatchObject({ allowed: false })
    expect(classifyAddress('64:ff9b::10.1.2.3', opened)).toMatchObject({ allowed: false })
  })

  test('of this node stays refused inside an allowed block, until it is allowed by itself', () => {
    const own = new Set(['10.1.0.5'])
    expect(classifyAddress('10.1.0.5', { own, allowed: [parseCidr('10.1.0.0/16')] })).toMatchObject({
      allowed: false,
      why: 'an address of this node',
      cidr: '10.1.0.5/32',
    })
    expect(classifyAddress('10.1.0.5', { own, allowed: [parseCidr('10.1.0.5')] })).toEqual({ allowed: true })
  })

  test('an allowed IPv4 block does not open 0.0.0.0 or the IPv6 loopback', () => {
    const policy = { own: new Set<string>(), allowed: [parseCidr('127.0.0.0/8')] }
    for (const address of ['0.0.0.0', '::', '::1', '::127.0.0.1']) {
      expect(classifyAddress(address, policy)).toMatchObject({ allowed: false })
    }
  })
})

const octet = fc.integer({ min: 0, max: 255 })
const ipv4 = fc.tuple(octet, octet, octet, octet).map((parts) => parts.join('.'))
const group = fc.integer({ min: 0, max: 0xffff }).map((value) => value.toString(16))
const ipv6 = fc.array(group, { minLength: 8, maxLength: 8 }).map((groups) => groups.join(':'))

/** The same blocks in another implementation, as the oracle. */
function blockList(subnets: readonly string[]): BlockList {
  const list = new BlockList()
  for (const subnet of subnets) {
    const [address = '', prefix = ''] = subnet.split('/')
    list.addSubnet(address, Number(prefix), isIPv6(address) ? 'ipv6' : 'ipv4')
  }
  return list
}

const SPECIAL_V4 = blockList(
  '0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/3 168.63.129.16/32'.split(
    ' ',
  ),
)

describe('properties of the classifier', () => {
  const policy: AddressPolicy = { allowed: [], own: new Set() }
  const isAllowed = (address: string, given = policy): boolean => classifyAddress(address, given).allowed

  test('an IPv4 address is public exactly where no special block holds it, mapped or not', () => {
    fc.assert(
      fc.property(ipv4, (address) => {
        const expected = !SPECIAL_V4.check(address)
        expect(isAllowed(address)).toBe(expected)
        expect(isAllowed(`::ffff:${address}`)).toBe(expected)
        expect(isAllowed(`64:ff9b::${address}`)).toBe(expected)
      }),
      { numRuns: 3_000 },
    )
  })

  test('an IPv6 address outside 2000::/3 is refused, unless it is a public IPv4 address', () => {
    fc.assert(
      fc.property(ipv6, (address) => {
        const inGlobal = (Number.parseInt(address.split(':', 1)[0] ?? '', 16) & 0xe000) === 0x2000
        if (!inGlobal) expect(isAllowed(address)).toBe(false)
      }),
      { numRuns: 3_000 },
    )
  })

  test('an IPv4 address carried in 6to4, Teredo, or compatible form is refused', () => {
    fc.assert(
      fc.property(ipv4, group, (address, tail) => {
        const [a = 0, b = 0, c = 0, d = 0] = address.split('.').map(Number)
        const hex = (high: number, low: number): string => ((high << 8) | low).toString(16)
        expect(isAllowed(`::${address}`)).toBe(false)
        expect(isAllowed(`2002:${hex(a, b)}:${hex(c, d)}::${tail}`)).toBe(false)
        expect(isAllowed(`2001:0:${tail}::${hex(a ^ 255, b ^ 255)}:${hex(c ^ 255, d ^ 255)}`)).toBe(false)
      }),
    )
  })

  test('an allowed block opens its own addresses and nothing else', () => {
    fc.assert(
      fc.property(ipv4, fc.integer({ min: 0, max: 32 }), ipv4, (block, prefix, address) => {
        const cidr = `${block}/${prefix}`
        const expected = blockList([cidr]).check(address) || !SPECIAL_V4.check(address)
        expect(isAllowed(address, { allowed: [parseCidr(cidr)], own: new Set() })).toBe(expected)
      }),
      { numRuns: 3_000 },
    )
  })

  test('every spelling of an address reads as the same host', () => {
    fc.assert(
      fc.property(ipv4, fc.constantFrom('http', 'https'), (address, scheme) => {
        const parts = address.split('.').map(Number)
        const [a = 0, b = 0, c = 0, d = 0] = parts
        const value = ((a * 256 + b) * 256 + c) * 256 + d
        const spellings = [
          String(value),
          `0x${value.toString(16)}`,
          `0${value.toString(8)}`,
          `${address}.`,
          parts.map((part) => `0x${part.toString(16)}`).join('.'),
          parts.map((part) => `0${part.toString(8)}`).join('.'),
          `${a}.${value % 2 ** 24}`,
          `${a}.${b}.${value % 2 ** 16}`,
        ]
        for (const spelling of spellings) {
          expect(parseTarget(`${scheme}://${spelling}/`).hostname).toBe(address)
          expect(parseAuthority(`${spelling}:25`).hostname).toBe(address)
        }
      }),
    )
  })

  test('no text makes the classifier or the parsers throw anything but an error of ours', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        classifyAddress(text, policy)
        for (const parse of [parseTarget, parseAuthority, parseCidr]) {
          try {
            parse(text)
          } catch (error) {
            expect(isIsolaError(error)).toBe(true)
          }
        }
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('a block of addresses', () => {
  test.each([
    '10.0.0.0/33',
    '10/8',
    'fd00::/129',
    'localhost',
    '',
    '10.0.0.0/',
    '10.0.0.0/-1',
    '0x0a.0.0.0/8',
  ])('%j is not one', (text) => {
    expect(() => parseCidr(text)).toThrow(/is not a block of addresses: write for example/)
  })

  test('may be one address, and an IPv4-mapped one means IPv4', () => {
    expect(parseCidr('10.1.2.3')[1]).toBe(32)
    expect(parseCidr('fd00::1')[1]).toBe(128)
    const mapped = { allowed: [parseCidr('::ffff:10.0.0.0/104')], own: new Set<string>() }
    expect(classifyAddress('10.9.9.9', mapped)).toEqual({ allowed: true })
    expect(addressKey('::FFFF:10.0.0.1')).toBe('10.0.0.1')
  })
})

/** Hosts as a function could write them; the lookup of the test sends every name to a private address. */
const REFUSED_HOSTS = `
  127.0.0.1 127.0.0.1. 127.1 127.0.1 127.000.000.001 0177.0.0.1 0177.0.0.01 0x7f.0.0.1 0x7f.1 0x7f000001
  0X7F000001 2130706433 017700000001 127.0.0.2 127.255.255.254 0 0.0.0.0 0x0 00000 10.0.0.1 0xa.1 167772161
  012.0.0.1 172.16.1.1 192.168.1.1 3232235777 169.254.169.254 0xa9fea9fe 2852039166 0251.0376.0251.0376
  169.254.43518 100.64.0.1 224.0.0.1 255.255.255.255 4294967295 [::1] [::] [0:0:0:0:0:0:0:1]
  [::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:a9fe:a9fe] [::127.0.0.1] [64:ff9b::7f00:1] [2002:7f00:1::]
  [fe80::1] [fd00:ec2::254] [fc00::1] [ff02::1] [2001:db8::1] [::FFFF:127.0.0.1] localhost LOCALHOST
  localhost. a.localhost user@127.0.0.1 user:pass@127.0.0.1 example.com@127.0.0.1 %31%32%37.0.0.1
  127%2e0.0.1 １２７.0.0.1 127。0。0。1 ①②⑦.0.0.1 ｌocalhost 93.184.215.14 1572394766 [2606:2800:21f:cb07:0:0:0:1]
  [::ffff:93.184.215.14] metadata.google.internal rebind.example exämple.example 127.0.0.1.nip.example
  0x7f.1.
`
  .trim()
  .split(/\s+/)

describe('a request for a refused host', () => {
  let egress: EgressUnderTest
  beforeAll(async () => {
    const lookup = () =>
      Promise.resolve([
        { address: '192.168.7.7', family: 4 },
        { address: '::1', family: 6 },
      ])
    egress = await startEgress({ lookup, rules: { allowedCidrs: [], ownAddresses: OWN } })
  })
  afterAll(() => egress.close())

  test('the table is long', () => expect(REFUSED_HOSTS.length).toBeGreaterThan(60))

  test.each(REFUSED_HOSTS)('%s gets 403 over HTTP, HTTPS and CONNECT', async (host) => {
    for (const scheme of ['http', 'https']) {
      // As workerd writes it: the target is the URL as `fetch` parsed it.
      const answer = await send(egress.socketPath, new URL(`${scheme}://${host}:8080/path`).href)
      expect(answer.status).toBe(403)
      expect(answer.headers['x-isola-error']).toBe('egress_refused')
      expect(errorOf(answer)).toMatchObject({ code: 'egress_refused' })
      expect(errorOf(answer).message).toContain('isola up --allow-egress ')
    }
    // And as raw bytes, where the proxy parses.
    const bytes = Buffer.from(`GET http://${host}/ HTTP/1.1\r\nConnection: close\r\n\r\n`)
    expect(await sendRaw(egress.socketPath, bytes)).toMatch(/^HTTP\/1.1 40[03] /)
    const connectBytes = Buffer.from(`CONNECT ${host}:25 HTTP/1.1\r\n\r\n`)
    expect(await sendRaw(egress.socketPath, connectBytes)).toMatch(/^HTTP\/1.1 40[03] /)
  })

  test('the node’s own interface addresses are refused without being told', async () => {
    const addresses = Object.values(networkInterfaces()).flatMap((list) =>
      (list ?? []).map(({ address }) => address),
    )
    expect(addresses.length).toBeGreaterThan(0)
    for (const address of addresses) {
      const bare = address.replace(/%.*/, '')
      const answer = await send(egress.socketPath, `http://${isIPv6(bare) ? `[${bare}]` : bare}/`)
      expect(answer.status).toBe(403)
    }
  })
})
