import { execFileSync, spawn } from 'node:child_process'
import {
  chownSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ask, testDriver, versionOf, type TestDriver } from '../harness/isolate-driver.ts'
import { prepareSandbox } from '../../runtime/isolate/sandbox.ts'
import { workerdBinaryPath } from '../../runtime/machine/workerd-binary.ts'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import type { Instance } from '../../runtime/pool/driver.ts'

const HELLO = 'export default { fetch: () => new Response("hello") }'

// These promises are about root on a real machine: without it they fail rather than pass unseen.
test('the tests of the sandbox run as root', () => {
  expect(process.getuid?.()).toBe(0)
})

describe('an instance started by root', () => {
  let t: TestDriver
  let instance: Instance
  const proc = (file: string): string => readFileSync(`/proc/${instance.pid}/${file}`, 'utf8')
  const status = (field: string): string =>
    new RegExp(`^${field}:[\\t ]*(.*)$`, 'm').exec(proc('status'))![1]!

  beforeEach(async () => {
    t = await testDriver({ sandbox: 'unshare' })
    instance = await t.driver.start(versionOf({ main: HELLO }))
  })
  afterEach(() => t.end())

  test('is workerd itself, under an unprivileged id of its own', () => {
    expect(proc('cmdline').split('\0')[0]).toBe('/workerd')
    const uids = status('Uid').split('\t')
    expect(new Set(uids).size).toBe(1)
    expect(Number(uids[0])).toBeGreaterThanOrEqual(600_000)
    expect(status('Gid').split('\t')[0]).toBe(uids[0])
    expect(status('Groups').trim()).toBe('')
  })

  test('has no capability and can gain none', () => {
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) expect(status(set)).toMatch(/^0+$/)
    expect(status('NoNewPrivs')).toBe('1')
  })

  test('has namespaces of its own, and no network but a loopback that is down', () => {
    for (const kind of ['mnt', 'net', 'ipc', 'uts']) {
      expect(readlinkSync(`/proc/${instance.pid}/ns/${kind}`)).not.toBe(readlinkSync(`/proc/self/ns/${kind}`))
    }
    const devices = proc('net/dev').split('\n').slice(2).filter(Boolean)
    expect(devices.map((line) => line.trim().split(':')[0])).toEqual(['lo'])
    expect(proc('net/route').trim().split('\n')).toHaveLength(1)
    expect(proc('net/if_inet6')).toBe('')
    expect(proc('net/fib_trie')).not.toContain('127.0.0.1')
  })

  test('sees workerd, its libraries, a random device and its sockets, and nothing of the host', () => {
    const files = execFileSync('find', [`/proc/${instance.pid}/root/`, '-mindepth', '1', '!', '-type', 'd'], {
      encoding: 'utf8',
    })
      .trim()
      .split('\n')
      .map((path) => path.replace(/^\/proc\/\d+\/root/, ''))
    const expected =
      /^\/(workerd|setpriv|proc\/self\/exe|dev\/urandom|etc\/ld\.so\.cache|run\/isola\/\w+\.sock|(usr\/)?lib[\w/.-]*\.so[.\d]*)$/
    expect(files.filter((path) => !expected.test(path))).toEqual([])
    expect(files).toContain('/workerd')
    expect(proc('mountinfo')).not.toMatch(/ \/old /)
  })

  test('has every mount read-only, without devices and setuid, but its socket directory', () => {
    for (const line of proc('mountinfo').trim().split('\n')) {
      const [, , , , target, options] = line.split(' ')
      expect(options).toContain('nosuid')
      expect(options!.split(',')[0]).toBe(target === '/run/isola' ? 'rw' : 'ro')
      expect(options).toContain(target === '/dev/urandom' ? 'noexec' : 'nodev')
    }
  })

  test('cannot write anywhere but to its socket directory', () => {
    const [uid] = status('Uid').split('\t')
    const inside = (command: readonly string[]): string =>
      execFileSync('setpriv', [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', ...command], {
        encoding: 'utf8',
        stdio: 'pipe',
      })
    const root = `/proc/${instance.pid}/root`
    // As root but through the instance's mounts: read-only holds whoever writes.
    for (const place of ['', '/dev', '/etc', '/run', '/proc/self']) {
      expect(() => writeFileSync(`${root}${place}/planted`, '')).toThrow(/EROFS|EACCES/)
    }
    expect(inside(['id', '-u']).trim()).toBe(uid)
    const directory = join(t.runDirectory, 'i', instance.id)
    for (const file of ['instance.json', 'stdout.log', 'stderr.log']) {
      expect(() => inside(['cat', join(directory, file)])).toThrow(/Permission denied/)
    }
  })

  test('has limits on files and core dumps, and is the first to go when memory is short', () => {
    const limit = (name: string): string => new RegExp(`^${name}\\s+(\\S+)`, 'm').exec(proc('limits'))![1]!
    expect(limit('Max core file size')).toBe('0')
    expect(limit('Max open files')).toBe(String(INSTANCE_LIMITS.openFilesMax))
    expect(limit('Max file size')).toBe(String(INSTANCE_LIMITS.logFileBytesMax))
    expect(proc('oom_score_adj').trim()).toBe(String(INSTANCE_LIMITS.oomScoreAdjust))
  })

  test('gets nothing of the environment of the node', () => {
    expect(
      proc('environ')
        .split('\0')
        .filter(Boolean)
        .map((entry) => entry.split('=')[0]),
    ).toEqual(expect.arrayContaining(['PATH', 'TZ']))
    expect(proc('environ')).not.toContain('HOME=')
  })

  test('answers on a socket that it cannot replace', async () => {
    const own = join(t.runDirectory, 'i', instance.id, 's', 'http.sock')
    rmSync(own)
    expect((await ask(instance.socketPath)).text).toBe('hello')
  })
})

describe('what is in force', () => {
  test('is said in words', async () => {
    const t = await testDriver()
    expect(t.driver.sandbox).toBe(
      'namespaces (mount, network, ipc, host name), read-only root, own uid, no capabilities (unshare)',
    )
    await t.end()
  })

  test('says loudly that there is none, why, and still never runs a function as root', async () => {
    const t = await testDriver({ sandbox: 'none' })
    try {
      expect(t.driver.sandbox).toBe('own uid, no capabilities; no namespaces (it was chosen)')
      const instance = await t.driver.start(versionOf({ main: HELLO }))
      expect((await ask(instance.socketPath)).text).toBe('hello')
      const status = readFileSync(`/proc/${instance.pid}/status`, 'utf8')
      expect(status).toMatch(/^Uid:\t\d{6,7}\t/m)
      expect(status).toMatch(/^CapEff:\t0+$/m)
      expect(status).toMatch(/^NoNewPrivs:\t1$/m)
    } finally {
      await t.end()
    }
  })

  test('falls back, with the reason, where namespaces are refused', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'iso-'))
    writeFileSync(join(directory, 'file'), '')
    // Nothing can be made below a file: the chain fails for real, as it does where the kernel forbids it.
    const options = { directory: join(directory, 'file'), workerd: workerdBinaryPath() }
    const sandbox = await prepareSandbox({ ...options, choice: 'auto' })
    expect(sandbox.kind).toBe('user')
    expect(sandbox.description).toMatch(
      /^own uid, no capabilities; no namespaces \(namespaces: .*ENOTDIR.*; allow this process/,
    )
    await expect(prepareSandbox({ ...options, choice: 'unshare' })).rejects.toMatchObject({
      code: 'unsupported_machine',
      message: expect.stringMatching(/gives no namespaces .* run as root/) as string,
    })
    rmSync(directory, { recursive: true })
  })

  test('refuses a machine on which workerd does not run', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'iso-'))
    await expect(prepareSandbox({ choice: 'auto', directory, workerd: '/bin/true' })).rejects.toMatchObject({
      code: 'unsupported_machine',
      message: expect.stringMatching(/workerd does not start/) as string,
    })
    rmSync(directory, { recursive: true })
  })
})

describe('without root', () => {
  const NOBODY = 65_534

  test('the same chain runs in a user namespace, and an instance there has no capability', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'iso-'))
    chownSync(directory, NOBODY, NOBODY)
    const script = `
      import { testDriver, versionOf, ask } from ${JSON.stringify(new URL('../harness/isolate-driver.ts', import.meta.url).href)}
      import { readFileSync } from 'node:fs'
      const t = await testDriver({ runDirectory: ${JSON.stringify(directory)}, isolationName: 'nobody-${process.pid}' })
      const instance = await t.driver.start(versionOf({ main: ${JSON.stringify(HELLO)} }))
      const { text } = await ask(instance.socketPath)
      const status = readFileSync('/proc/' + instance.pid + '/status', 'utf8')
      const usage = instance.usage()
      const { sandbox, limits } = t.driver
      console.log(JSON.stringify({ sandbox, limits, text, status, usage }))
      await t.end()`
    const child = spawn(
      'setpriv',
      [
        `--reuid=${NOBODY}`,
        `--regid=${NOBODY}`,
        '--clear-groups',
        process.execPath,
        '--input-type=module',
        '-e',
        script,
      ],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    )
    let output = ''
    let errors = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text))
    await new Promise((resolve) => child.once('close', resolve))
    expect(errors).toBe('')
    const seen = JSON.parse(output) as {
      sandbox: string
      limits: string
      text: string
      status: string
      usage: { memoryBytes: number }
    }
    expect(seen.text).toBe('hello')
    expect(seen.sandbox).toBe(
      'namespaces (mount, network, ipc, host name, user), read-only root, uid of the node, no capabilities (unshare)',
    )
    expect(seen.status).toMatch(/^CapEff:\t0+$/m)
    expect(seen.status).toMatch(/^CapBnd:\t0+$/m)
    expect(seen.limits).toMatch(
      /^none but files and time \(cgroup v2: .*; cgroup v1: no group with a memory limit can be made\)$/,
    )
    expect(seen.usage.memoryBytes).toBeGreaterThan(1_000_000)
    expect(existsSync(directory) ? readdirSync(directory) : []).toEqual([])
  })
})
