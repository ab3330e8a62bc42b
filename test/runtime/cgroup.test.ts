import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openCgroupTree, type CgroupTree } from '../../runtime/machine/cgroup.ts'

const LIMITS = { memoryMib: 64, cpus: 0.5, pids: 8 }
const MIB = 1024 * 1024

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'iso-cgroup-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

/** A /proc/self and cgroup file systems that are plain directories. */
function machine(options: {
  readonly own: string
  readonly mounts: string
  readonly files?: Record<string, string>
}) {
  writeFileSync(join(directory, 'cgroup'), options.own)
  writeFileSync(join(directory, 'mountinfo'), options.mounts.replaceAll('DIR', directory))
  for (const [file, text] of Object.entries(options.files ?? {})) {
    mkdirSync(dirname(join(directory, file)), { recursive: true })
    writeFileSync(join(directory, file), text)
  }
}

const open = (isRoot = false): CgroupTree | { readonly unavailable: string } =>
  openCgroupTree({ name: 'n', processDirectory: directory, isRoot })
const opened = (isRoot = false): CgroupTree => {
  const tree = open(isRoot)
  if ('unavailable' in tree) throw new Error(tree.unavailable)
  return tree
}
const text = (file: string): string => readFileSync(join(directory, file), 'utf8')
const MOUNT_V2 = '30 1 0:26 / DIR/fs rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n'

describe('this machine', () => {
  // Limits are a promise, and this suite is where it is kept: without them it fails.
  test('a group limits, accounts and kills what is inside, and goes away', async () => {
    const tree = openCgroupTree({ name: `test-${process.pid}` })
    if ('unavailable' in tree) throw new Error(tree.unavailable)
    const group = tree.create('one')
    group.limit(LIMITS)
    const child = spawn(
      'sh',
      [
        '-c',
        'for f; do echo $$ > "$f"; done; echo in; i=0; while :; do i=$((i+1)); done',
        'sh',
        ...group.processFiles,
      ],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    await new Promise((resolve) => child.stdout.once('data', resolve))
    while ((group.usage().cpuMs ?? 0) < 20) await new Promise((resolve) => setTimeout(resolve, 5))
    expect(group.usage().memoryBytes).toBeGreaterThan(0)
    expect(group.remove()).toBe(false)
    expect(tree.ids()).toEqual(['one'])
    const ended = new Promise((resolve) => child.once('exit', (_, signal) => resolve(signal)))
    tree.find('one').kill()
    expect(await ended).toBe('SIGKILL')
    while (!group.remove()) await new Promise((resolve) => setTimeout(resolve, 5))
    expect(tree.ids()).toEqual([])
    expect(group.usage()).toMatchObject({ cpuMs: undefined, memoryBytes: undefined })
    expect(group.remove()).toBe(true)
    tree.close()
    expect(
      group.processFiles.some(
        (file) => existsSync(dirname(dirname(file))) && dirname(dirname(file)).includes('isola-test'),
      ),
    ).toBe(false)
  })

  test('a memory limit can be set, lowered and raised', () => {
    const tree = openCgroupTree({ name: `test-${process.pid}` })
    if ('unavailable' in tree) throw new Error(tree.unavailable)
    const group = tree.create('two')
    const file = group.directories['unified']
      ? join(group.directories['unified'], 'memory.max')
      : join(group.directories['memory']!, 'memory.limit_in_bytes')
    for (const memoryMib of [128, 64, 256]) {
      group.limit({ ...LIMITS, memoryMib })
      expect(Number(readFileSync(file, 'utf8'))).toBe(memoryMib * MIB)
    }
    expect(group.memoryKill()).toBeUndefined()
    expect(group.remove()).toBe(true)
    tree.close()
  })
})

test('what is frozen runs no more, is killed all the same, and the freezer is found again', async () => {
  const tree = openCgroupTree({ name: `test-${process.pid}` })
  if ('unavailable' in tree) throw new Error(tree.unavailable)
  const group = tree.create('three')
  const child = spawn(
    'sh',
    ['-c', 'for f; do echo $$ > "$f"; done; echo in; while :; do :; done', 'sh', ...group.processFiles],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  await new Promise((resolve) => child.stdout.once('data', resolve))
  expect(group.isFrozen()).toBe(false)
  const { file, frozen } = group.freezer!
  expect(tree.open(group.directories).freezer).toEqual(group.freezer)
  writeFileSync(file, frozen)
  expect(group.isFrozen()).toBe(true)
  group.thaw()
  expect(group.isFrozen()).toBe(false)
  writeFileSync(file, frozen)
  const ended = new Promise((resolve) => child.once('exit', (_, signal) => resolve(signal)))
  group.kill()
  expect(await ended).toBe('SIGKILL')
  while (!group.remove()) await new Promise((resolve) => setTimeout(resolve, 5))
  expect(group.isFrozen()).toBe(false)
  group.thaw()
  group.setCpuWeight(100)
  tree.close()
})

describe('cgroup v2', () => {
  const CONTROLLERS = {
    'fs/svc/cgroup.controllers': 'cpuset cpu io memory pids\n',
    'fs/svc/cgroup.subtree_control': '\n',
  }

  test('groups lie below the own group, with all limits, without swap', () => {
    machine({ own: '0::/svc\n', mounts: MOUNT_V2, files: CONTROLLERS })
    const tree = opened()
    expect(tree.description).toBe('cgroup v2: memory, cpu, pids')
    const group = tree.create('a')
    group.limit(LIMITS)
    expect(text('fs/svc/cgroup.subtree_control')).toBe('+memory +cpu +pids')
    expect(text('fs/svc/isola-n/cgroup.subtree_control')).toBe('+memory +cpu +pids')
    expect(text('fs/svc/isola-n/a/memory.max')).toBe(String(64 * MIB))
    expect(text('fs/svc/isola-n/a/memory.swap.max')).toBe('0')
    expect(text('fs/svc/isola-n/a/memory.oom.group')).toBe('1')
    expect(text('fs/svc/isola-n/a/cpu.max')).toBe('50000 100000')
    expect(text('fs/svc/isola-n/a/pids.max')).toBe('8')
    expect(group.processFiles).toEqual([join(directory, 'fs/svc/isola-n/a/cgroup.procs')])
  })

  test('usage leaves out cache that can be dropped; kills by the kernel are counted', () => {
    machine({ own: '0::/svc\n', mounts: MOUNT_V2, files: CONTROLLERS })
    const group = opened().create('a')
    const put = (file: string, value: string): void =>
      writeFileSync(join(directory, 'fs/svc/isola-n/a', file), value)
    put('cpu.stat', 'usage_usec 1500\nuser_usec 1000\n')
    put('memory.current', '5000000\n')
    put('memory.stat', 'anon 1\nactive_file 7\ninactive_file 2000000\n')
    put('memory.events', 'low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n')
    expect(group.usage()).toEqual({ cpuMs: 1.5, memoryBytes: 3_000_000 })
    expect(group.memoryKill()).toEqual({ reached: 'instance' })
    group.kill()
    expect(text('fs/svc/isola-n/a/cgroup.kill')).toBe('1')
  })

  test('whose memory was used up is told by whose limit was reached', () => {
    machine({ own: '0::/svc\n', mounts: MOUNT_V2, files: CONTROLLERS })
    const group = opened().create('a')
    const put = (file: string, value: string): void =>
      writeFileSync(join(directory, 'fs/svc/isola-n', file), value)
    expect(group.memoryKill()).toBeUndefined()
    put('a/memory.events', 'oom 0\noom_kill 1\n')
    expect(group.memoryKill()).toEqual({ reached: 'machine' })
    put('memory.max', `${900 * MIB}\n`)
    put('memory.events', 'oom 0\noom_kill 1\n')
    expect(group.memoryKill()).toEqual({ reached: 'machine' })
    put('memory.events', 'oom 3\noom_kill 1\n')
    expect(group.memoryKill()).toEqual({ reached: 'budget', memoryMib: 900 })
    // A sibling's own limit counts in the parent as well, but not in its local file.
    put('memory.events.local', 'oom 0\noom_kill 0\n')
    expect(group.memoryKill()).toEqual({ reached: 'machine' })
    put('a/memory.events', 'oom 1\noom_kill 1\n')
    expect(group.memoryKill()).toEqual({ reached: 'instance' })
  })

  test('all groups together are limited at their parent, and never below what is in use', () => {
    machine({ own: '0::/svc\n', mounts: MOUNT_V2, files: CONTROLLERS })
    const tree = opened()
    const parent = 'fs/svc/isola-n'
    expect(text(`${parent}/cpu.weight`)).toBe('100')
    expect(tree.limitTogether({ memoryMib: 100, cpus: 0.5 })).toBe(true)
    expect(text(`${parent}/memory.max`)).toBe(String(100 * MIB))
    expect(text(`${parent}/cpu.max`)).toBe('50000 100000')
    writeFileSync(join(directory, `${parent}/memory.current`), String(160 * MIB))
    writeFileSync(join(directory, `${parent}/memory.stat`), `inactive_file ${20 * MIB}\n`)
    expect(tree.limitTogether({ memoryMib: 100, cpus: 4_096 })).toBe(false)
    expect(text(`${parent}/memory.max`)).toBe(String(180 * MIB))
    expect(text(`${parent}/cpu.max`)).toBe('max 100000')
    expect(tree.limitTogether({ memoryMib: 150, cpus: 4_096 })).toBe(true)
    expect(text(`${parent}/memory.max`)).toBe(String(150 * MIB))
    expect(tree.limitTogether(undefined)).toBe(true)
    expect(text(`${parent}/memory.max`)).toBe('max')
  })

  test('a weight and the freezer are files of the group; without freezer there is none', () => {
    machine({ own: '0::/svc\n', mounts: MOUNT_V2, files: CONTROLLERS })
    const without = opened().create('a')
    expect(without.freezer).toBeUndefined()
    expect(without.isFrozen()).toBe(false)
    without.thaw()
    expect(existsSync(join(directory, 'fs/svc/isola-n/a/cgroup.freeze'))).toBe(false)
    for (const folder of ['', 'b/']) {
      mkdirSync(join(directory, 'fs/svc/isola-n', folder), { recursive: true })
      writeFileSync(join(directory, 'fs/svc/isola-n', folder, 'cgroup.freeze'), '0\n')
    }
    expect(opened().description).toBe('cgroup v2: memory, cpu, pids, freezer')
    const group = opened().find('b')
    expect(group.freezer).toEqual({
      file: join(directory, 'fs/svc/isola-n/b/cgroup.freeze'),
      frozen: '1',
      thawed: '0',
    })
    writeFileSync(group.freezer!.file, '1\n')
    expect(group.isFrozen()).toBe(true)
    group.kill()
    expect(text('fs/svc/isola-n/b/cgroup.freeze')).toBe('0')
    for (const [weight, written] of [
      [250, '250'],
      [0, '1'],
      [1e6, '10000'],
    ] as const) {
      group.setCpuWeight(weight)
      expect(text('fs/svc/isola-n/b/cpu.weight')).toBe(written)
    }
  })

  test('the same group is found again by its directories, whatever the own group is now', () => {
    machine({ own: '0::/svc\n', mounts: MOUNT_V2, files: CONTROLLERS })
    const made = opened().create('a')
    machine({
      own: '0::/other\n',
      mounts: MOUNT_V2,
      files: { 'fs/other/cgroup.controllers': 'memory', 'fs/other/cgroup.subtree_control': '' },
    })
    expect(opened().open(made.directories).processFiles).toEqual(made.processFiles)
  })

  test('an agent that is already in the leaf for the node does not nest deeper', () => {
    machine({ own: '0::/svc/isola-n-node\n', mounts: MOUNT_V2, files: CONTROLLERS })
    opened().create('a')
    expect(existsSync(join(directory, 'fs/svc/isola-n/a'))).toBe(true)
  })

  test('root in a login session leaves the session alone and uses the top of the tree', () => {
    machine({
      own: '0::/user.slice/session-1.scope\n',
      mounts: MOUNT_V2,
      files: {
        'fs/user.slice/session-1.scope/cgroup.controllers': '',
        'fs/cgroup.controllers': 'cpu memory pids',
        'fs/cgroup.subtree_control': 'cpu memory pids',
      },
    })
    opened(true).create('a')
    expect(existsSync(join(directory, 'fs/isola-n/a'))).toBe(true)
    expect(existsSync(join(directory, 'fs/isola-n-node'))).toBe(false)
  })

  test('a tree without memory controller is no use, and that is said', () => {
    machine({ own: '0::/\n', mounts: MOUNT_V2, files: { 'fs/cgroup.controllers': '\n' } })
    expect(open()).toEqual({
      unavailable: `cgroup v2: ${join(directory, 'fs')} has no memory controller; cgroup v1: no group with a memory limit can be made`,
    })
  })
})

describe('cgroup v1', () => {
  const MOUNTS = `31 1 0:27 / DIR/memory rw - cgroup cgroup rw,memory
32 1 0:28 / DIR/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 1 0:29 / DIR/pids rw - cgroup cgroup rw,pids
`
  const OWN = '4:memory:/svc\n3:cpu,cpuacct:/svc\n2:pids:/svc\n0::/\n'
  const FILES = { 'memory/svc/x': '', 'cpu,cpuacct/svc/x': '', 'pids/svc/x': '' }

  test('groups lie below the own group of each controller, with all limits', () => {
    machine({ own: OWN, mounts: MOUNTS, files: FILES })
    const tree = opened()
    expect(tree.description).toBe('cgroup v1: memory, cpu, pids')
    const group = tree.create('a')
    group.limit(LIMITS)
    expect(text('memory/svc/isola-n/a/memory.limit_in_bytes')).toBe(String(64 * MIB))
    expect(text('memory/svc/isola-n/a/memory.memsw.limit_in_bytes')).toBe(String(64 * MIB))
    expect(text('cpu,cpuacct/svc/isola-n/a/cpu.cfs_quota_us')).toBe('50000')
    expect(text('pids/svc/isola-n/a/pids.max')).toBe('8')
    expect(group.processFiles).toHaveLength(3)
  })

  test('a machine without freezer freezes nothing, and says what it has', () => {
    machine({ own: OWN, mounts: MOUNTS, files: FILES })
    const group = opened().create('a')
    expect(group.freezer).toBeUndefined()
    expect(group.isFrozen()).toBe(false)
    group.thaw()
    expect(opened().description).toBe('cgroup v1: memory, cpu, pids')
  })

  test('whose memory was used up is told by who has been at his limit', () => {
    machine({ own: OWN, mounts: MOUNTS, files: FILES })
    const tree = opened()
    const group = tree.create('a')
    group.limit(LIMITS)
    expect(tree.limitTogether({ memoryMib: 100, cpus: 1 })).toBe(true)
    const put = (file: string, value: number | string): void =>
      writeFileSync(join(directory, 'memory/svc/isola-n', file), String(value))
    put('a/memory.max_usage_in_bytes', 20 * MIB)
    put('memory.max_usage_in_bytes', 60 * MIB)
    expect(group.memoryKill()).toBeUndefined()
    put('a/memory.oom_control', 'oom_kill_disable 0\nunder_oom 0\noom_kill 1\n')
    expect(group.memoryKill()).toEqual({ reached: 'machine' })
    put('memory.max_usage_in_bytes', 100 * MIB - 4_096)
    expect(group.memoryKill()).toEqual({ reached: 'budget', memoryMib: 100 })
    // Both have been at their limits; the last measurement of this one was far below.
    put('a/memory.memsw.max_usage_in_bytes', 64 * MIB)
    put('a/memory.usage_in_bytes', 10 * MIB)
    expect(group.memoryKill()).toEqual({ reached: 'instance' })
    group.usage()
    expect(group.memoryKill()).toEqual({ reached: 'budget', memoryMib: 100 })
    put('a/memory.usage_in_bytes', 60 * MIB)
    group.usage()
    expect(group.memoryKill()).toEqual({ reached: 'instance' })
  })

  test('usage and kills are read from the files of the controllers', () => {
    machine({ own: OWN, mounts: MOUNTS, files: FILES })
    const group = opened().create('a')
    writeFileSync(join(directory, 'cpu,cpuacct/svc/isola-n/a/cpuacct.usage'), '2500000\n')
    writeFileSync(join(directory, 'memory/svc/isola-n/a/memory.usage_in_bytes'), '900\n')
    writeFileSync(
      join(directory, 'memory/svc/isola-n/a/memory.stat'),
      'inactive_file 1\ntotal_inactive_file 400\n',
    )
    writeFileSync(
      join(directory, 'memory/svc/isola-n/a/memory.oom_control'),
      'oom_kill_disable 0\nunder_oom 0\noom_kill 3\n',
    )
    expect(group.usage()).toEqual({ cpuMs: 2.5, memoryBytes: 500 })
    expect(group.memoryKill()).toEqual({ reached: 'machine' })
  })

  test("in a container, whose mount is a part of the host's tree, paths are those inside", () => {
    machine({
      own: '4:memory:/docker/abc/svc\n',
      mounts: '31 1 0:27 /docker/abc DIR/memory rw - cgroup cgroup rw,memory\n',
      files: { 'memory/svc/x': '' },
    })
    const tree = opened()
    tree.create('a')
    expect(existsSync(join(directory, 'memory/svc/isola-n/a'))).toBe(true)
    expect(tree.description).toBe('cgroup v1: memory')
  })

  test("a path of a container's host that is not there means the mount point", () => {
    machine({
      own: '4:memory:/docker/abc\n',
      mounts: '31 1 0:27 /other DIR/memory rw - cgroup cgroup rw,memory\n',
      files: { 'memory/x': '' },
    })
    opened().create('a')
    expect(existsSync(join(directory, 'memory/isola-n/a'))).toBe(true)
  })
})

test('a machine without cgroups says so', () => {
  machine({ own: '', mounts: '1 0 0:1 / / rw - ext4 /dev/vda rw\n' })
  expect(open()).toEqual({ unavailable: 'no cgroup file system is mounted' })
})
