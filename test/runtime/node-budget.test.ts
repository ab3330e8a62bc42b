/** What instances may use together, on machines made of files: /proc, and the groups around a process. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { detectMachine, nodeBudget } from '../../runtime/node/node-budget.ts'
import { NODE_LIMITS } from '../../sdk/model/limits.ts'
import { runIsola } from '../harness/node.ts'

const MIB = 1024 * 1024
const GIB_MIB = 1024
/** What v1 says where there is no limit. */
const NONE_V1 = '9223372036854771712\n'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'isola-budget-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

function write(path: string, text: string): void {
  const file = join(root, path)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text)
}

function machine(options: { memoryMib: number; own?: string; mounts?: readonly string[] }): {
  procDirectory: string
  cores: number
} {
  write('proc/meminfo', `MemTotal:       ${options.memoryMib * 1024} kB\nMemFree:   1 kB\n`)
  write('proc/self/cgroup', options.own ?? '')
  write('proc/self/mountinfo', (options.mounts ?? []).map((line) => `${line}\n`).join(''))
  return { procDirectory: join(root, 'proc'), cores: 4 }
}

const v2Mount = (): string => `31 23 0:28 / ${root}/cg rw - cgroup2 cgroup2 rw`
const v1Mounts = (): string[] =>
  ['memory', 'cpu'].map((name) => `32 31 0:29 / ${root}/${name} rw - cgroup cgroup rw,${name}`)

describe('the machine', () => {
  test('without groups is all its memory and cores', () => {
    expect(detectMachine(machine({ memoryMib: 8 * GIB_MIB }))).toEqual({ memoryMib: 8192, cpus: 4 })
  })

  test('under cgroup v2 is the smallest limit between its own group and the root', () => {
    const options = machine({ memoryMib: 8 * GIB_MIB, own: '0::/a/b/c\n', mounts: [v2Mount()] })
    write('cg/a/memory.max', `${2048 * MIB}\n`)
    write('cg/a/cpu.max', '150000 100000\n')
    write('cg/a/b/memory.max', 'max\n')
    write('cg/a/b/c/memory.max', `${3072 * MIB}\n`)
    write('cg/a/b/c/cpu.max', 'max 100000\n')
    expect(detectMachine(options)).toEqual({ memoryMib: 2048, cpus: 1.5 })
  })

  test('under cgroup v1 is found by controller, and "no limit" is none', () => {
    const options = machine({
      memoryMib: 8 * GIB_MIB,
      own: '4:memory:/outer/inner\n2:cpu:/other\n',
      mounts: v1Mounts(),
    })
    write('memory/memory.limit_in_bytes', NONE_V1)
    write('memory/outer/memory.limit_in_bytes', `${1024 * MIB}\n`)
    write('memory/outer/inner/memory.limit_in_bytes', NONE_V1)
    write('cpu/cpu.cfs_quota_us', '-1\n')
    write('cpu/cpu.cfs_period_us', '100000\n')
    write('cpu/other/cpu.cfs_quota_us', '50000\n')
    write('cpu/other/cpu.cfs_period_us', '100000\n')
    expect(detectMachine(options)).toEqual({ memoryMib: 1024, cpus: 0.5 })
  })

  test('of a container, whose own group is at the mount point, is that group', () => {
    const options = machine({
      memoryMib: 8 * GIB_MIB,
      own: '0::/docker/123\n',
      mounts: [`31 23 0:28 /docker/123 ${root}/cg rw - cgroup2 cgroup2 rw`],
    })
    write('cg/memory.max', `${512 * MIB}\n`)
    expect(detectMachine(options).memoryMib).toBe(512)
  })

  test('that does not say how much memory it has is no machine for a node', () => {
    const options = machine({ memoryMib: 1 })
    write('proc/meminfo', 'nothing\n')
    expect(() => detectMachine(options)).toThrow(expect.objectContaining({ code: 'unsupported_machine' }))
  })

  test('of this test has memory and a processor', () => {
    const { memoryMib, cpus } = detectMachine()
    expect(memoryMib).toBeGreaterThan(100)
    expect(cpus).toBeGreaterThan(0)
  })
})

describe('the budget', () => {
  const { reserveMib, budgetMibMin } = NODE_LIMITS

  test('leaves the node its reserve, a tenth of a large machine', () => {
    expect(nodeBudget(machine({ memoryMib: 1024 })).memoryMib).toBe(1024 - reserveMib)
    expect(nodeBudget(machine({ memoryMib: 65_536 })).memoryMib).toBe(Math.floor(65_536 * 0.9))
  })

  test('of a machine that is too small for it is the least that makes sense', () => {
    expect(nodeBudget(machine({ memoryMib: 256 }))).toEqual({ memoryMib: budgetMibMin, cpus: 4 })
  })

  test('is what the operator gives', () => {
    const options = machine({ memoryMib: 4096 })
    expect(nodeBudget({ ...options, memoryMib: 512, cpus: 1.5 })).toEqual({ memoryMib: 512, cpus: 1.5 })
    expect(nodeBudget({ ...options, memoryMib: 4096 }).memoryMib).toBe(4096)
  })

  test.each([
    [{ memoryMib: 63 }, /--memory is 63 MiB .* 4096 MiB/],
    [{ memoryMib: 4097 }, /--memory is 4097 MiB .* 4096 MiB/],
    [{ cpus: 0 }, /--cpus is 0 .* grants 4/],
    [{ cpus: 4.5 }, /--cpus is 4.5 .* grants 4/],
  ])('of %o is refused with what the machine grants', (given, message) => {
    const options = { ...machine({ memoryMib: 4096 }), ...given }
    expect(() => nodeBudget(options)).toThrow(
      expect.objectContaining({ code: 'invalid_argument', message: expect.stringMatching(message) }),
    )
  })
})

describe('isola up', () => {
  test.each([
    ['--memory', 'lots', 'usage'],
    ['--memory', '-1G', 'usage'],
    ['--memory', '1k', 'usage'],
    ['--memory', '10M', 'invalid_argument'],
    ['--memory', '900000G', 'invalid_argument'],
    ['--cpus', 'all', 'usage'],
    ['--cpus', '0', 'invalid_argument'],
    ['--cpus', '4000', 'invalid_argument'],
  ])('refuses %s %s and leaves nothing behind', async (flag, value, code) => {
    const data = join(root, 'data')
    const { stdout, code: exitCode } = await runIsola(['up', '--data', data, `${flag}=${value}`, '--json'])
    expect(exitCode).not.toBe(0)
    const { error } = JSON.parse(stdout) as { error: { code: string; message: string } }
    expect(error).toMatchObject({ code, message: expect.stringContaining(flag) })
    expect(existsSync(data)).toBe(false)
  })
})
