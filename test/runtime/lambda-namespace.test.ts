import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, readlinkSync } from 'node:fs'
import { afterEach, describe, expect, test } from 'vitest'
import { FUNCTION, placeOf, startLambda } from '../harness/lambda-process.ts'

const cleanups: (() => unknown)[] = []
const onCleanup = (cleanup: () => unknown): void => void cleanups.push(cleanup)
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

/** Inside its namespace, as AWS's runtime client: one event after the other, each answered with what it is. */
const RUNTIME = `
const base = 'http://127.0.0.1:9001/2018-06-01/runtime/invocation'
for (;;) {
  const next = await fetch(base + '/next')
  const id = next.headers.get('lambda-runtime-aws-request-id')
  const body = JSON.stringify({ echo: await next.json() })
  await fetch(base + '/' + id + '/response', { method: 'POST', body })
}`

/** A process that holds a network namespace of its own, with loopback up. */
async function startNamespace(): Promise<number> {
  const holder = spawn('unshare', ['-n', 'sh', '-c', 'ip link set lo up && echo up && exec sleep 600'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onCleanup(async () => {
    holder.kill('SIGKILL')
    await once(holder, 'exit')
  })
  await once(holder.stdout, 'data')
  return holder.pid as number
}

async function inNamespace(pid: number) {
  const lambda = startLambda(onCleanup)
  const agent = await lambda.attach()
  const { place, call } = placeOf(onCleanup, lambda.directory, { function: FUNCTION })
  agent.channel.send({ type: 'open', environment: { ...place, runtimeApi: { type: 'namespace', pid } } })
  const runRuntime = () => {
    const client = spawn(
      'nsenter',
      ['-t', String(pid), '-n', process.execPath, '--input-type=module', '-e', RUNTIME],
      {
        stdio: 'ignore',
      },
    )
    onCleanup(async () => {
      client.kill('SIGKILL')
      await once(client, 'exit')
    })
  }
  return { ...lambda, agent, place, call, runRuntime }
}

describe.skipIf(process.getuid?.() !== 0)('a door inside a network namespace', () => {
  test('is where AWS’s clients look, there and nowhere else', async () => {
    const pid = await startNamespace()
    const { agent, call, runRuntime, child } = await inNamespace(pid)
    await agent.next('opened')
    expect(readlinkSync(`/proc/${child.pid}/ns/net`)).not.toBe(readlinkSync(`/proc/${pid}/ns/net`))
    const listens = '0100007F:2329 00000000:0000 0A'
    expect(readFileSync(`/proc/${pid}/net/tcp`, 'utf8')).toContain(listens)
    expect(readFileSync('/proc/self/net/tcp', 'utf8')).not.toContain(listens)
    runRuntime()
    await agent.next('ready')
    for (const n of [1, 2, 3]) {
      const { text } = await call({ method: 'POST', headers: { 'isola-invoke': 'event' }, body: `${n}` })
      expect(text).toBe(`{"echo":${n}}`)
    }
    agent.channel.send({ type: 'close', id: 'e1' })
    agent.channel.send({ type: 'environments', environments: [] })
    // In turn: the failure to open something else says that the close is done.
    const { place } = placeOf(onCleanup, '/nowhere', { id: 'e2' })
    agent.channel.send({ type: 'open', environment: place })
    await agent.next('open-failed', 'e2')
    expect(readFileSync(`/proc/${pid}/net/tcp`, 'utf8')).not.toContain(listens)
  })

  test('is opened again by a process that takes over while the one before still has it', async () => {
    const pid = await startNamespace()
    const first = await inNamespace(pid)
    await first.agent.next('opened')
    const second = startLambda(onCleanup, { directory: first.directory })
    const agent = await second.attach()
    const environment = { ...first.place, runtimeApi: { type: 'namespace', pid } as const }
    agent.channel.send({ type: 'environments', environments: [environment] })
    await agent.next('opened')
    first.runRuntime()
    await agent.next('ready')
  })

  test('of a process that is gone cannot be opened, in nsenter’s words', async () => {
    const holder = spawn('true')
    await once(holder, 'exit')
    const { agent, stderr } = await inNamespace(holder.pid as number)
    const { message } = await agent.next('open-failed')
    expect(message).toMatch(/network namespace of process \d+ could not be opened: nsenter: .*No such file/)
    expect(stderr()).toContain('nsenter')
  })

  test('whose address is taken cannot be opened', async () => {
    const pid = await startNamespace()
    const listener = "require('net').createServer().listen(9001, '127.0.0.1', () => console.log('up'))"
    const squatter = spawn('nsenter', ['-t', String(pid), '-n', process.execPath, '-e', listener])
    onCleanup(() => squatter.kill('SIGKILL'))
    await once(squatter.stdout, 'data')
    const { agent } = await inNamespace(pid)
    expect((await agent.next('open-failed')).message).toContain('EADDRINUSE')
  })
})
