import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ask, freeze, isFrozen, testDriver, thaw, type TestDriver } from '../harness/isolate-driver.ts'
import type { Freezer } from '../../runtime/pool/wire.ts'
import { openCgroupTree } from '../../runtime/machine/cgroup.ts'

const AGENT = new URL('../harness/isolate-agent.ts', import.meta.url)

let runDirectory: string
let isolationName: string
let next: TestDriver | undefined
beforeEach(() => {
  runDirectory = mkdtempSync(join(tmpdir(), 'iso-'))
  isolationName = `test-${process.pid}-${runDirectory.slice(-6)}`
})
afterEach(async () => {
  await next?.end()
  next = undefined
  rmSync(runDirectory, { recursive: true, force: true })
})

interface Left {
  readonly id: string
  readonly pid: number
  readonly socketPath: string
  readonly memoryMib: number
  readonly freezer: Freezer
}

/** Runs an agent until it has an instance (or is starting one), then kills it with -9. */
async function leaveBehind(main: string, step: 'running' | 'starting' = 'running'): Promise<Left> {
  const agent = spawn(process.execPath, [AGENT.pathname, runDirectory, isolationName, main, step], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const text = await new Promise<string>((resolve, reject) => {
    agent.stdout.setEncoding('utf8').once('data', resolve)
    agent.once('exit', () => reject(new Error('the agent ended before its instance ran')))
  })
  const gone = new Promise((resolve) => agent.once('exit', (_, signal) => resolve(signal)))
  agent.kill('SIGKILL')
  expect(await gone).toBe('SIGKILL')
  return JSON.parse(text) as Left
}

const isAlive = (pid: number): boolean =>
  existsSync(`/proc/${pid}/stat`) && !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
const untilGone = async (pid: number): Promise<void> => {
  while (isAlive(pid)) await new Promise((resolve) => setTimeout(resolve, 10))
}
const recordedPids = (): number[] =>
  readdirSync(join(runDirectory, 'i')).map((id) => {
    const text = readFileSync(join(runDirectory, 'i', id, 'instance.json'), 'utf8')
    return (JSON.parse(text) as { process: { pid: number } }).process.pid
  })
const nextAgent = async (): Promise<TestDriver> => (next = await testDriver({ runDirectory, isolationName }))
const cgroupIds = (): readonly string[] => {
  const tree = openCgroupTree({ name: isolationName })
  if ('unavailable' in tree) throw new Error(tree.unavailable)
  const ids = tree.ids()
  tree.close()
  return ids
}

const COUNTING =
  'let n = 0; export default { fetch() { console.log(`request ${++n}`); return new Response(String(n)) } }'

test('an instance outlives its agent, and the next agent adopts it with all it has written meanwhile', async () => {
  const left = await leaveBehind(COUNTING)
  expect(isAlive(left.pid)).toBe(true)
  expect((await ask(left.socketPath)).text).toBe('1')
  expect((await ask(left.socketPath)).text).toBe('2')

  const { driver, line, egress } = await nextAgent()
  const [instance, ...others] = await driver.adopt()
  expect(others).toEqual([])
  expect(instance).toMatchObject({ ...left, functionName: 'tested', state: 'running', exit: undefined })
  expect(egress.calls).toContain(`assign ${left.id} tested`)
  expect((await line(({ message }) => message.includes('request 1'))).instanceId).toBe(left.id)
  await line(({ message }) => message.includes('request 2'))
  expect((await ask(instance!.socketPath)).text).toBe('3')
  await line(({ message }) => message.includes('request 3'))
  expect(instance!.usage().memoryBytes).toBeGreaterThan(1_000_000)
  expect(await instance!.pendingWork()).toBe(0)

  expect(await instance!.stop({ graceMs: 5_000 })).toMatchObject({ cause: 'stopped' })
  expect(isAlive(left.pid)).toBe(false)
})

test('lines that the dead agent delivered are not delivered again', async () => {
  const left = await leaveBehind(COUNTING)
  await ask(left.socketPath)
  const first = await nextAgent()
  await first.driver.adopt()
  await first.line(({ message }) => message.includes('request 1'))
  // A second reader of the same files stands for an agent after the next: it begins where the first one is.
  const second = await testDriver({ runDirectory, isolationName })
  await second.driver.adopt()
  await ask(left.socketPath)
  await second.line(({ message }) => message.includes('request 2'))
  expect(second.lines.filter(({ message }) => message.includes('request 1'))).toEqual([])
  await second.driver.close()
})

test('an adopted instance can be killed, and its crash is seen', async () => {
  const killed = await leaveBehind(COUNTING)
  const { driver } = await nextAgent()
  const [instance] = await driver.adopt()
  instance!.kill('killed')
  expect(await instance!.exited).toMatchObject({ cause: 'killed', message: 'killed' })
  expect(isAlive(killed.pid)).toBe(false)
})

test('an instance that ended while no agent was there is logged by the next one, and cleared away', async () => {
  const left = await leaveBehind(
    "console.log('last words'); export default { fetch() { return new Response() } }",
  )
  process.kill(left.pid, 'SIGKILL')
  await untilGone(left.pid)
  const { driver, lines } = await nextAgent()
  expect(await driver.adopt()).toEqual([])
  expect(lines.at(-1)).toMatchObject({
    source: 'instance',
    instanceId: left.id,
    message: 'ended (crashed): ended while no agent was there to see how',
  })
  expect(readdirSync(join(runDirectory, 'i'))).toEqual([])
  expect(cgroupIds()).toEqual([])
})

test('a pid that now belongs to another process is not taken for the instance', async () => {
  const left = await leaveBehind(COUNTING)
  const file = join(runDirectory, 'i', left.id, 'instance.json')
  const { driver } = await nextAgent()
  const stranger = spawn('sleep', ['60'])
  try {
    const record = JSON.parse(readFileSync(file, 'utf8')) as { process: { pid: number } }
    record.process.pid = stranger.pid!
    writeFileSync(file, JSON.stringify(record))
    expect(await driver.adopt()).toEqual([])
    expect(isAlive(stranger.pid!)).toBe(true)
    // Its cgroup named it all the same.
    await untilGone(left.pid)
  } finally {
    stranger.kill('SIGKILL')
  }
})

test('blanks end with their agent, and the next one clears what is left of them', async () => {
  const left = await leaveBehind(COUNTING)
  for (const pid of recordedPids()) if (pid !== left.pid) await untilGone(pid)
  const { driver } = await nextAgent()
  const [instance] = await driver.adopt()
  expect(readdirSync(join(runDirectory, 'i'))).toEqual([instance!.id])
  expect(cgroupIds()).toEqual([instance!.id])
})

test('a start that was under way when the agent died is ended by the next one', async () => {
  await leaveBehind('for (;;) {} export default { fetch() {} }', 'starting')
  const pids = recordedPids()
  expect(pids.some(isAlive)).toBe(true)
  const { driver } = await nextAgent()
  expect(await driver.adopt()).toEqual([])
  for (const pid of pids) await untilGone(pid)
  expect(readdirSync(join(runDirectory, 'i'))).toEqual([])
  expect(cgroupIds()).toEqual([])
})

test('a directory without a usable record is cleared away', async () => {
  const left = await leaveBehind(COUNTING)

  writeFileSync(join(runDirectory, 'i', left.id, 'instance.json'), '{"formatVersion":1,')
  const { driver } = await nextAgent()
  expect(await driver.adopt()).toEqual([])
  await untilGone(left.pid)
  expect(readdirSync(join(runDirectory, 'i'))).toEqual([])
})

test('limits that the node had set are those of the adopted instance, and are named', async () => {
  await leaveBehind(COUNTING)
  const { driver } = await nextAgent()
  const [instance] = await driver.adopt()
  expect(instance!.memoryMib).toBe(96)
  instance!.kill('cpu_limit')
  expect((await instance!.exited).message).toBe('CPU limit of 700 ms reached without an answer')
})

test('a record that knows no limits in force gets those of the version', async () => {
  const left = await leaveBehind(COUNTING)
  const file = join(runDirectory, 'i', left.id, 'instance.json')
  const record = JSON.parse(readFileSync(file, 'utf8')) as { running: { limits?: unknown } }
  expect(record.running.limits).toEqual({ memoryMib: 96, cpuMs: 700 })
  delete record.running.limits
  writeFileSync(file, JSON.stringify(record))
  const { driver } = await nextAgent()
  const [instance] = await driver.adopt()
  expect(instance!.memoryMib).toBe(128)
})

test('a frozen instance is adopted as it is, measured, thawed by whoever routes, and stopped', async () => {
  const left = await leaveBehind(COUNTING)
  await freeze(left.freezer)
  const { driver } = await nextAgent()
  const [instance] = await driver.adopt()
  expect(instance!.freezer).toEqual(left.freezer)
  expect(isFrozen(left.freezer)).toBe(true)
  expect(instance!.usage().memoryBytes).toBeGreaterThan(1_000_000)
  thaw(left.freezer)
  expect((await ask(left.socketPath)).text).toBe('1')
  await freeze(left.freezer)
  expect(await instance!.stop({ graceMs: 5_000 })).toMatchObject({ cause: 'stopped' })
  expect(isAlive(left.pid)).toBe(false)
})

test('a frozen process without a usable record is ended and cleared away', async () => {
  const left = await leaveBehind(COUNTING)
  await freeze(left.freezer)
  writeFileSync(join(runDirectory, 'i', left.id, 'instance.json'), '{')
  const { driver } = await nextAgent()
  expect(await driver.adopt()).toEqual([])
  await untilGone(left.pid)
  expect(cgroupIds()).toEqual([])
})

test('a frozen process of a start that nobody awaits any more is ended and cleared away', async () => {
  const left = await leaveBehind(COUNTING)
  await freeze(left.freezer)
  const file = join(runDirectory, 'i', left.id, 'instance.json')
  const record = JSON.parse(readFileSync(file, 'utf8')) as { running?: unknown }
  delete record.running
  writeFileSync(file, JSON.stringify(record))
  const { driver } = await nextAgent()
  expect(await driver.adopt()).toEqual([])
  await untilGone(left.pid)
  expect(cgroupIds()).toEqual([])
})
