import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { hostNameservers } from '../../runtime/container/egress-nameservers.ts'
import { namesOf } from '../../runtime/container/egress-network.ts'
import { egressRules } from '../../runtime/container/egress-rules.ts'
import { createFirewall } from '../../runtime/container/iptables.ts'
import type { Sandbox } from '../../runtime/container/sandbox.ts'
import { describeEngine } from '../harness/engine.ts'
import { openSandboxes, type SandboxPlace } from '../harness/sandbox-place.ts'

const ALLOWED = '10.77.0.0/16'
/** Of nobody here; what is public is not routed in a test. */
const PUBLIC_ADDRESS = '45.33.32.77'
const PRIVATE_ADDRESS = '10.88.0.77'
const OPENED_ADDRESS = '10.77.0.77'
const METADATA_ADDRESS = '169.254.169.254'
const SHARED_ADDRESS = '100.64.0.77'
const PORT = 7777

const root = (program: string, ...parameters: string[]): string =>
  execFileSync(program, parameters, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
  })

/** A network namespace that has all the addresses, as a neighbour of this machine, and a server that answers on each. */
async function openNeighbour(): Promise<{ readonly close: () => void }> {
  const suffix = randomBytes(3).toString('hex')
  const [name, outer, inner] = [`isola-t-${suffix}`, `isot${suffix}`, `ison${suffix}`]
  const addresses = [PUBLIC_ADDRESS, PRIVATE_ADDRESS, OPENED_ADDRESS, METADATA_ADDRESS, SHARED_ADDRESS]
  const close = (): void => {
    server?.kill('SIGKILL')
    execFileSync('ip', ['netns', 'del', name])
  }
  let server: import('node:child_process').ChildProcess | undefined
  root('ip', 'netns', 'add', name)
  try {
    root('ip', 'link', 'add', outer, 'type', 'veth', 'peer', 'name', inner)
    root('ip', 'link', 'set', inner, 'netns', name)
    root('ip', 'addr', 'add', '45.33.32.1/30', 'dev', outer)
    root('ip', 'link', 'set', outer, 'up')
    const inside = ['netns', 'exec', name]
    root('ip', ...inside, 'ip', 'addr', 'add', '45.33.32.2/30', 'dev', inner)
    for (const address of addresses) root('ip', ...inside, 'ip', 'addr', 'add', `${address}/32`, 'dev', inner)
    root('ip', ...inside, 'ip', 'link', 'set', inner, 'up')
    root('ip', ...inside, 'ip', 'route', 'add', 'default', 'via', '45.33.32.1')
    for (const address of addresses) root('ip', 'route', 'add', `${address}/32`, 'via', '45.33.32.2')
    const { spawn } = await import('node:child_process')
    const program = `require('node:net').createServer((socket) => socket.on('error', () => {}).end('here')).listen(${PORT}, '0.0.0.0', () => console.log('up'))`
    server = spawn('ip', [...inside, process.execPath, '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await new Promise((resolve) => server!.stdout!.once('data', resolve))
    return { close }
  } catch (error) {
    close()
    throw error
  }
}

/** What comes of a connection to each, from inside: `open` or the code of its failure; what is dropped is `silent`. */
const TRY = (targets: readonly string[]): string => `
const results = {}
const attempt = (target) => new Promise((resolve) => {
  const [host, port] = target.split('|')
  const socket = require('node:net').connect({ host, port: Number(port) })
  const end = (word) => { socket.destroy(); results[target] = word; resolve() }
  socket.once('connect', () => end('open'))
  socket.once('error', (error) => end(error.code))
  socket.setTimeout(1500, () => end('silent'))
})
Promise.all(${JSON.stringify(targets)}.map(attempt)).then(() => console.log(JSON.stringify(results)))`

describeEngine('the network of containers with egress', () => {
  let place: SandboxPlace
  let neighbour: { readonly close: () => void }
  let own: Server
  let ownPort: number
  let sandbox: Sandbox
  let other: Sandbox
  const chain = (): string => namesOf(place.isolationName).chain
  const bridge = (): string => namesOf(place.isolationName).bridgeName
  const reach = async (
    targets: readonly string[],
    from: Sandbox = sandbox,
  ): Promise<Record<string, string>> => {
    const { text } = await place.outputOf(await place.node(TRY(targets), { networkMode: from.networkMode }))
    return JSON.parse(text) as Record<string, string>
  }
  const addressOf = async ({ networkMode }: Sandbox): Promise<string> => {
    const program = `console.log(Object.values(require('node:os').networkInterfaces()).flat().filter((one) => !one.internal).map((one) => one.address).join())`
    return (await place.outputOf(await place.node(program, { networkMode }))).text
  }
  const gateway = (): string =>
    networkInterfaces()[bridge()]!.find(({ family }) => family === 'IPv4')!.address

  beforeAll(async () => {
    neighbour = await openNeighbour()
    place = await openSandboxes({ allowedCidrs: [ALLOWED] })
    own = createServer((socket) => socket.end('own')).listen(0, '0.0.0.0')
    await new Promise((resolve) => own.once('listening', resolve))
    ownPort = (own.address() as { port: number }).port
    sandbox = await place.sandboxes.make({ id: 'e1', egress: true, port: 8080 })
    other = await place.sandboxes.make({ id: 'e2', egress: true, port: 8080 })
  })
  afterAll(async () => {
    own?.close()
    neighbour?.close()
    await place?.close()
  })

  test('reaches the public internet and what the operator opened', async () => {
    expect(sandbox.egress).toBe(true)
    expect(await reach([`${PUBLIC_ADDRESS}|${PORT}`, `${OPENED_ADDRESS}|${PORT}`])).toEqual({
      [`${PUBLIC_ADDRESS}|${PORT}`]: 'open',
      [`${OPENED_ADDRESS}|${PORT}`]: 'open',
    })
  })

  test('reaches neither private nor shared nor metadata addresses', async () => {
    const targets = [PRIVATE_ADDRESS, METADATA_ADDRESS, SHARED_ADDRESS].map((address) => `${address}|${PORT}`)
    // They are there for this machine itself.
    for (const target of targets) {
      const [host, port] = target.split('|')
      const answer = root(
        process.execPath,
        '-e',
        `require('node:net').connect(${port}, '${host}').pipe(process.stdout)`,
      )
      expect(answer).toBe('here')
    }
    const found = await reach(targets)
    expect(found).toEqual(Object.fromEntries(targets.map((target) => [target, 'silent'])))
  })

  test('reaches no service of the node, by none of its addresses', async () => {
    const addresses = Object.values(networkInterfaces())
      .flat()
      .filter((one) => one?.family === 'IPv4' && !one.internal)
      .map((one) => `${one!.address}|${ownPort}`)
    expect(addresses).toContain(`${gateway()}|${ownPort}`)
    const found = await reach([...addresses, `127.0.0.1|${ownPort}`])
    const expected = Object.fromEntries(addresses.map((target) => [target, 'silent']))
    expect(found).toEqual({ ...expected, [`127.0.0.1|${ownPort}`]: 'ECONNREFUSED' })
  })

  test('reaches no other container, neither on its own network nor on another', async () => {
    await place.serve(other, `require('node:net').createServer().listen(8080)`)
    const foreign = await place.node(
      `require('node:net').createServer().listen(8080); console.log(require('node:os').networkInterfaces().eth0[0].address)`,
      { networkMode: 'bridge' },
    )
    const foreignAddress = await new Promise<string>((resolve) => {
      place.engine.readOutput(foreign, { sinceMs: 0, onLine: ({ text }) => resolve(text) })
    })
    const target = `${await addressOf(other)}|8080`
    expect(target).toMatch(/^\d+\.\d+\.\d+\.\d+\|8080$/)
    expect(await reach([target, `${foreignAddress}|8080`])).toEqual({
      [target]: 'silent',
      [`${foreignAddress}|8080`]: 'silent',
    })
  })

  test('has no IPv6, by which none of this would be judged', async () => {
    const program = `console.log(require('node:fs').readFileSync('/proc/net/if_inet6', 'utf8').split('\\n').filter((line) => line !== '' && !line.trim().endsWith(' lo')).length)`
    expect(await place.outputOf(await place.node(program, { networkMode: sandbox.networkMode }))).toEqual({
      text: '0',
      exitCode: 0,
    })
  })

  test('asks names of the node itself, through the engine', async () => {
    const program = `console.log(require('node:fs').readFileSync('/etc/resolv.conf', 'utf8'))`
    const { text } = await place.outputOf(await place.node(program, { networkMode: sandbox.networkMode }))
    expect(text).toContain('nameserver 127.0.0.11')
    for (const address of hostNameservers()) {
      expect(root('iptables', '-t', 'mangle', '-S', chain())).toContain(
        `-A ${chain()} -d ${address}/32 -p udp -m udp --dport 53 -j RETURN`,
      )
    }
  })

  test('rules that somebody flushed or took out of their place are there again with the next sandbox', async () => {
    const listing = (): string =>
      root('iptables', '-t', 'mangle', '-S').replaceAll(/^(?!.*ISOLA-EGRESS).*\n/gm, '')
    const ofOurs = (): string =>
      listing()
        .split('\n')
        .filter((line) => line.includes(chain()))
        .join('\n')
    const before = ofOurs()
    expect(before).toContain(`-A PREROUTING -i ${bridge()} -j ${chain()}`)
    root('iptables', '-w', '-t', 'mangle', '-F', chain())
    expect(ofOurs()).not.toBe(before)
    expect(await reach([`${PRIVATE_ADDRESS}|${PORT}`])).toEqual({ [`${PRIVATE_ADDRESS}|${PORT}`]: 'open' })
    await Promise.all([place.egress.ensure(), place.egress.ensure()])
    expect(ofOurs()).toBe(before)
    root('iptables', '-w', '-t', 'mangle', '-D', 'PREROUTING', '-i', bridge(), '-j', chain())
    const made = await place.sandboxes.make({ id: 'e3', egress: true, port: 8080 })
    expect(ofOurs()).toBe(before)
    expect(await reach([`${PRIVATE_ADDRESS}|${PORT}`], made)).toEqual({
      [`${PRIVATE_ADDRESS}|${PORT}`]: 'silent',
    })
  })

  test('is not removed under a container, and leaves no rule when it is', async () => {
    const mine = await openSandboxes()
    try {
      const names = namesOf(mine.isolationName)
      const inside = await mine.sandboxes.make({ id: 'r1', egress: true, port: 8080 })
      await expect(mine.egress.remove()).rejects.toMatchObject({ code: 'conflict' })
      expect(root('iptables', '-t', 'mangle', '-S')).toContain(names.chain)
      await inside.remove()
      await mine.egress.remove()
      await mine.egress.remove()
      expect(root('iptables', '-t', 'mangle', '-S')).not.toContain(names.chain)
      expect(networkInterfaces()[names.bridgeName]).toBeUndefined()
    } finally {
      await mine.close()
    }
  })
})

describe('its rules', () => {
  const rules = (options: Partial<Parameters<typeof egressRules>[0]> = {}): readonly string[] =>
    egressRules({ allowedCidrs: [], ownAddresses: [], nameservers: [], ...options })
  const before = (list: readonly string[], first: string, second: string): boolean =>
    list.includes(first) && list.indexOf(first) < list.indexOf(second)

  test('a block opens private addresses, and an address of the node only when it is that address', () => {
    const list = rules({
      allowedCidrs: ['10.1.2.3/16', '192.0.2.9', 'fd00::/8'],
      ownAddresses: ['192.0.2.9'],
    })
    expect(before(list, '-d 10.1.0.0/16 -j RETURN', '-d 10.0.0.0/8 -j DROP')).toBe(true)
    expect(before(list, '-m addrtype --dst-type LOCAL -j DROP', '-d 10.1.0.0/16 -j RETURN')).toBe(true)
    expect(before(list, '-d 192.0.2.9/32 -j RETURN', '-m addrtype --dst-type LOCAL -j DROP')).toBe(true)
    expect(list.join(' ')).not.toContain('fd00')
  })

  test('the name servers of the node are open for names alone', () => {
    const list = rules({ nameservers: ['10.0.0.2'] })
    expect(list.filter((rule) => rule.includes('10.0.0.2/32'))).toEqual([
      '-d 10.0.0.2/32 -p udp -m udp --dport 53 -j RETURN',
      '-d 10.0.0.2/32 -p tcp -m tcp --dport 53 -j RETURN',
    ])
  })

  test('what is no block of addresses is refused with what it is', () => {
    for (const text of ['10.0.0.0/33', '-j ACCEPT', '300.1.1.1', '10.0.0', '', '1.2.3.4\n-j ACCEPT']) {
      expect(() => rules({ allowedCidrs: [text] })).toThrow('is not a block of addresses')
    }
  })

  test('name servers are read from where systems keep them', () => {
    const directory = mkdtempSync(join(tmpdir(), 'isola-resolv-'))
    const file = join(directory, 'resolv.conf')
    writeFileSync(
      file,
      '# nameserver 9.9.9.9\nnameserver 10.0.0.2\nnameserver 127.0.0.53\n nameserver ::1\nsearch a.b\nnameserver 10.0.0.2',
    )
    expect(hostNameservers([file, join(directory, 'missing')])).toEqual(['10.0.0.2'])
    rmSync(directory, { recursive: true })
  })
})

const isRoot = process.getuid?.() === 0
const isInstalled = (program: string): boolean => existsSync(`/usr/sbin/${program}`)

describe('the firewall', () => {
  const chain = { chain: 'ISOLA-EGRESS-none', bridgeName: 'isolanone' }

  test.runIf(isRoot).each(['iptables-nft', 'iptables-legacy'].filter(isInstalled))(
    'by way of %s, writes rules once, again when they were changed, and removes what it wrote',
    async (kind) => {
      const directory = mkdtempSync(join(tmpdir(), 'isola-fw-'))
      const log = join(directory, 'log')
      writeFileSync(log, '')
      symlinkSync(`/usr/sbin/${kind}`, join(directory, 'iptables'))
      const wrapper = `#!/bin/sh\necho write >>${log}\nexec /usr/sbin/${kind}-restore "$@"\n`
      writeFileSync(join(directory, 'iptables-restore'), wrapper, { mode: 0o755 })
      const firewall = createFirewall({ path: `${directory}:/usr/bin:/bin` })
      const names = namesOf(`fw-${randomBytes(4).toString('hex')}`)
      const writes = (): number => readFileSync(log, 'utf8').split('\n').length - 1
      const rules = egressRules({ allowedCidrs: [ALLOWED], ownAddresses: [], nameservers: ['10.0.0.2'] })
      await firewall.ensure({ ...names, rules })
      await firewall.ensure({ ...names, rules })
      expect(writes()).toBe(1)
      root(
        `/usr/sbin/${kind}`,
        '-w',
        '-t',
        'mangle',
        '-I',
        'PREROUTING',
        '-i',
        names.bridgeName,
        '-j',
        'ACCEPT',
      )
      await firewall.ensure({ ...names, rules })
      await firewall.ensure({ ...names, rules: rules.slice(1) })
      expect(writes()).toBe(3)
      const listed = root(`/usr/sbin/${kind}`, '-t', 'mangle', '-S')
      expect(listed.split('\n').find((line) => line.startsWith('-A PREROUTING'))).toContain(names.chain)
      expect(listed).not.toContain(`-A ${names.chain} ${rules[0]}`)
      root(
        `/usr/sbin/${kind}`,
        '-w',
        '-t',
        'mangle',
        '-D',
        'PREROUTING',
        '-i',
        names.bridgeName,
        '-j',
        'ACCEPT',
      )
      await firewall.remove(names)
      await firewall.remove(names)
      expect(root(`/usr/sbin/${kind}`, '-t', 'mangle', '-S')).not.toContain(names.chain)
      rmSync(directory, { recursive: true })
    },
  )

  test('without iptables egress is refused by name, with what to install', async () => {
    const error = await createFirewall({ path: '/nonexistent' })
      .ensure({ ...chain, rules: [] })
      .then(
        () => undefined,
        (reason: unknown) => reason,
      )
    expect(error).toMatchObject({ code: 'unsupported_machine' })
    expect((error as Error).message).toMatch(
      /"iptables".*not installed.*apt-get install iptables.*"egress": false/,
    )
  })

  test('what iptables says against it is in the error', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'isola-fw-'))
    for (const name of ['iptables', 'iptables-restore']) {
      writeFileSync(
        join(directory, name),
        '#!/bin/sh\necho "Fatal: Permission denied (you must be root)" >&2\nexit 4\n',
      )
      chmodSync(join(directory, name), 0o755)
    }
    await expect(createFirewall({ path: directory }).ensure({ ...chain, rules: [] })).rejects.toMatchObject({
      code: 'unsupported_machine',
      message: expect.stringContaining('you must be root'),
    })
    rmSync(directory, { recursive: true })
  })
})
