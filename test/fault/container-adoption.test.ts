import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Freezer } from '../../runtime/pool/wire.ts'
import { LAMBDA_HEADERS } from '../../runtime/lambda/wire.ts'
import { openContainerPlace, type ContainerPlace } from '../harness/container-driver.ts'
import { describeEngine } from '../harness/engine.ts'
import { ask, freeze, isFrozen, thaw } from '../harness/isolate-driver.ts'

const AGENT = new URL('../harness/container-agent.ts', import.meta.url)
const COUNTING = 'let n = 0; export const handler = async () => { console.log(`event ${++n}`); return n }'
const SERVER =
  "let n = 0; require('http').createServer((q, s) => s.end(String(++n))).listen(process.env.PORT); process.on('SIGTERM', () => process.exit())"
const event = { [LAMBDA_HEADERS.invoke]: 'event' }

let directory: string
let isolationName: string
let next: ContainerPlace | undefined
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'isc-'))
  isolationName = `test-${process.pid}-${directory.slice(-6).toLowerCase()}`
})
afterEach(async () => {
  // A test that failed before its next agent leaves an instance: only an agent ends it.
  next ??= await nextAgent()
  await next.driver.adopt()
  await next.end()
  expect(await next.containers()).toEqual([])
  next = undefined
  rmSync(directory, { recursive: true, force: true })
})

interface Left {
  readonly id: string
  readonly pid: number
  readonly socketPath: string
  readonly freezer: Freezer
}

/** Runs an agent until it has what it is to have, then kills it with -9. */
async function leaveBehind(what: string, text: string): Promise<readonly Left[]> {
  const agent = spawn(process.execPath, [AGENT.pathname, directory, isolationName, what, text], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const printed = await new Promise<string>((resolve, reject) => {
    let said = ''
    agent.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      said += chunk
      if (said.endsWith('\n')) resolve(said)
    })
    agent.once('exit', () => reject(new Error('the agent ended before its instance ran')))
  })
  const gone = new Promise((resolve) => agent.once('exit', (_, signal) => resolve(signal)))
  agent.kill('SIGKILL')
  expect(await gone).toBe('SIGKILL')
  return JSON.parse(printed) as Left[]
}

const isAlive = (pid: number): boolean =>
  existsSync(`/proc/${pid}/stat`) && !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
const nextAgent = async (): Promise<ContainerPlace> =>
  (next = await openContainerPlace({ directory, isolationName }))
const folders = (): string[] => [
  ...readdirSync(join(directory, 'd', 'containers')),
  ...readdirSync(join(directory, 'r', 'c')),
]
const lambdaPid = (): number => {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  const socket = join(directory, 'r', 'lambda.sock')
  const found = pids.find((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(socket)
    } catch {
      return false
    }
  })
  return Number(found)
}

describeEngine('containers whose agent was killed', () => {
  test('serve on, and the next agent adopts them and clears away what nobody claimed', async () => {
    const [left] = await leaveBehind('code', COUNTING)
    expect((await ask(left!.socketPath, '/', event)).text).toBe('1')
    const { driver, line, containers } = await nextAgent()
    expect(await containers()).toHaveLength(3)
    const [instance, ...others] = await driver.adopt()
    expect(others).toEqual([])
    expect(instance).toMatchObject({ ...left, functionName: 'tested', state: 'running', memoryMib: 96 })
    expect((await ask(instance!.socketPath, '/', event)).text).toBe('2')
    await line(({ message, instanceId }) => message === 'event 2' && instanceId === left!.id)
    expect(instance!.usage().memoryBytes).toBeGreaterThan(4_000_000)
    await expect.poll(containers, { timeout: 10_000 }).toHaveLength(1)
    await expect.poll(() => new Set(folders())).toEqual(new Set([left!.id]))
    instance!.kill('cpu_limit')
    expect((await instance!.exited).message).toBe('CPU limit of 700 ms reached without an answer')
    expect(isAlive(left!.pid)).toBe(false)
  })

  test('a server in its sandbox is adopted with both', async () => {
    const [left] = await leaveBehind('server', SERVER)
    expect((await ask(left!.socketPath)).text).toBe('1')
    const { driver, containers } = await nextAgent()
    const [instance] = await driver.adopt()
    expect(instance).toMatchObject(left!)
    expect((await ask(instance!.socketPath)).text).toBe('2')
    expect(await instance!.stop({ graceMs: 5_000 })).toMatchObject({ cause: 'stopped' })
    await expect.poll(containers, { timeout: 10_000 }).toEqual([])
    await expect.poll(folders).toEqual([])
  })

  test('one whose Lambda process was killed too goes on with a new one', async () => {
    const [left] = await leaveBehind('code', COUNTING)
    expect((await ask(left!.socketPath, '/', event)).text).toBe('1')
    process.kill(lambdaPid(), 'SIGKILL')
    const { driver } = await nextAgent()
    const [instance] = await driver.adopt()
    expect(instance).toMatchObject(left!)
    expect((await ask(instance!.socketPath, '/', event)).text).toBe('2')
  })

  test('one that ended meanwhile is logged and cleared away', async () => {
    const [left] = await leaveBehind('code', COUNTING)
    process.kill(left!.pid, 'SIGKILL')
    const { driver, lines, containers } = await nextAgent()
    await expect.poll(async () => (await containers()).filter(({ running }) => running).length).toBe(2)
    expect(await driver.adopt()).toEqual([])
    expect(lines.find(({ instanceId }) => instanceId === left!.id)).toMatchObject({
      source: 'instance',
      message: 'ended (crashed): ended while no agent was there to see how',
    })
    await expect.poll(containers, { timeout: 10_000 }).toEqual([])
    await expect.poll(folders).toEqual([])
  })

  test('a start that was under way is ended', async () => {
    await leaveBehind('starting', 'for (;;) {}')
    const { driver, containers } = await nextAgent()
    expect(await containers()).toHaveLength(1)
    expect(await driver.adopt()).toEqual([])
    await expect.poll(containers, { timeout: 10_000 }).toEqual([])
    await expect.poll(folders).toEqual([])
  })

  test('one whose record cannot be used is ended', async () => {
    const [left] = await leaveBehind('code', COUNTING)
    writeFileSync(join(directory, 'd', 'containers', left!.id, 'record.json'), '{"formatVersion":1,')
    const { driver, containers } = await nextAgent()
    expect(await driver.adopt()).toEqual([])
    await expect.poll(containers, { timeout: 10_000 }).toEqual([])
    expect(isAlive(left!.pid)).toBe(false)
  })

  test('one that is frozen is adopted as it is', async () => {
    const [left] = await leaveBehind('code', COUNTING)
    await freeze(left!.freezer)
    const { driver } = await nextAgent()
    const [instance] = await driver.adopt()
    expect(instance).toMatchObject(left!)
    expect(isFrozen(left!.freezer)).toBe(true)
    thaw(left!.freezer)
    expect((await ask(instance!.socketPath, '/', event)).text).toBe('1')
    await freeze(left!.freezer)
    expect(await instance!.stop({ graceMs: 5_000 })).toMatchObject({ cause: 'stopped' })
  })

  test('adopting again changes nothing', async () => {
    const [left] = await leaveBehind('code', COUNTING)
    const { driver } = await nextAgent()
    const [instance] = await driver.adopt()
    expect(await driver.adopt()).toEqual([])
    expect(instance!.state).toBe('running')
    expect((await ask(left!.socketPath, '/', event)).text).toBe('1')
  })

  test('what this agent is just making is not taken for remains', async () => {
    const { driver, blanks } = await nextAgent()
    driver.keepBlanks('nodejs24/256/64', 2)
    await blanks(1)
    await driver.adopt()
    await blanks(2)
    expect(driver.blanks().map(({ pid }) => isAlive(pid))).toEqual([true, true])
  })
})
