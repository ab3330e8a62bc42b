import { readFileSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { InstanceAddress } from '../../runtime/pool/wire.ts'
import { startRawInstance, type RawInstance } from '../harness/fake-instance.ts'
import { hello, startTestRouter, type TestRouter } from '../harness/router-process.ts'

const get = (router: TestRouter, path = '/'): string => `GET ${path} HTTP/1.1\r\nHost: ${router.host}\r\n\r\n`

interface Freezable extends RawInstance {
  readonly address: InstanceAddress
  /** What the kernel was told last. */
  state(): string
}

/** An ordinary file stands for the kernel's. `state`: what is in it when the router meets the instance. */
async function startFreezable(router: TestRouter, id: string, state = 'frozen'): Promise<Freezable> {
  const file = join(router.directory, `${id}.freezer`)
  writeFileSync(file, state)
  const instance = await startRawInstance(router.socketPath(id), (socket, received) => {
    if (received.includes('/held')) return
    // What the kernel says is read at the moment of the answer: a frozen one could give none.
    const body = readFileSync(file, 'utf8')
    if (received.endsWith('\r\n\r\n'))
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
  })
  router.undo.use(instance)
  const freezer = { file, frozen: 'frozen', thawed: 'thawed' }
  router.up(id, { freezer })
  const socketPath = router.socketPath(id)
  const address = { id, functionName: 'hello', versionId: 'hello-v1', socketPath, freezer }
  return Object.assign(instance, { address, state: () => readFileSync(file, 'utf8') })
}

async function pause(router: TestRouter, id: string, started: number): Promise<boolean> {
  const { agent } = router
  const before = agent.messages.length
  agent.send({ type: 'instance-pause', id, started })
  const isNew = (message: (typeof agent.messages)[number]): boolean =>
    agent.messages.indexOf(message, before) !== -1
  return Promise.race([
    agent.heard('instance-paused', (message) => message.id === id && isNew(message)).then(() => true),
    agent.heard('pause-refused', (message) => message.id === id && isNew(message)).then(() => false),
  ])
}

async function aRouter(): Promise<TestRouter> {
  const router = await startTestRouter()
  await router.apply([hello({ concurrency: 1 })])
  return router
}

describe('pausing an instance:', () => {
  test('it is frozen when nothing is in flight and nothing has come since the agent looked', async () => {
    await using router = await aRouter()
    const one = await startFreezable(router, 'one')
    expect((await router.ask(get(router))).body.toString()).toBe('thawed')
    expect(await pause(router, 'one', 0)).toBe(false)
    expect(one.state()).toBe('thawed')
    expect(await pause(router, 'one', 1)).toBe(true)
    expect(one.state()).toBe('frozen')
    await router.agent.heard('load', ({ instances }) =>
      instances.some(({ id, paused, started }) => id === 'one' && paused && started === 1),
    )
    // A connection that ages while nobody can answer on it would fail its next request.
    await one.openConnections(0)
  })

  test('it is not while a request is on it, nor one that drains, is unknown, or has no freezer', async () => {
    await using router = await aRouter()
    const one = await startFreezable(router, 'one')
    const client = await router.open()
    client.send(get(router, '/held'))
    await one.until((text) => text.includes('/held'))
    expect(await pause(router, 'one', 1)).toBe(false)
    router.agent.send({ type: 'instance-drain', id: 'one' })
    expect(await pause(router, 'one', 1)).toBe(false)
    router.up('plain')
    expect(await pause(router, 'plain', 0)).toBe(false)
    expect(await pause(router, 'nobody', 0)).toBe(false)
    expect(one.state()).toBe('thawed')
    client.socket.destroy()
  })

  test('one whose freezer cannot be written goes on, and serves', async () => {
    await using router = await aRouter()
    const one = await startFreezable(router, 'one')
    await router.ask(get(router))
    const { file } = one.address.freezer!
    unlinkSync(file)
    expect(await pause(router, 'one', 1)).toBe(false)
    expect(router.stderr()).toContain('instance one cannot be paused')
    writeFileSync(file, 'as it was')
    expect((await router.ask(get(router))).body.toString()).toBe('as it was')
  })
})

describe('a paused instance', () => {
  test('is thawed by the router itself for the next request, and the agent hears of it', async () => {
    await using router = await aRouter()
    await startFreezable(router, 'one')
    expect(await pause(router, 'one', 0)).toBe(true)
    expect((await router.ask(get(router))).body.toString()).toBe('thawed')
    expect(await router.agent.heard('instance-resumed')).toEqual({ type: 'instance-resumed', id: 'one' })
    await router.agent.heard('load', ({ instances }) =>
      instances.some(({ id, paused, started }) => id === 'one' && !paused && started === 1),
    )
  })

  test('is left alone while a running one has room', async () => {
    await using router = await aRouter()
    const one = await startFreezable(router, 'one')
    const two = await startFreezable(router, 'two')
    expect(await pause(router, 'one', 0)).toBe(true)
    for (let count = 0; count < 5; count++) await router.ask(get(router))
    expect([one.accepted, one.state()]).toEqual([0, 'frozen'])
    const client = await router.open()
    client.send(get(router, '/held'))
    await two.until((text) => text.includes('/held'))
    expect((await router.ask(get(router))).body.toString()).toBe('thawed')
    expect(one.accepted).toBe(1)
    client.socket.destroy()
  })

  test('resumes while there is no agent, and stays paused for an agent that comes anew', async () => {
    await using router = await aRouter()
    const one = await startFreezable(router, 'one')
    const two = await startFreezable(router, 'two')
    expect(await pause(router, 'one', 0)).toBe(true)
    expect(await pause(router, 'two', 0)).toBe(true)
    router.agent.close()
    expect((await router.ask(get(router))).body.toString()).toBe('thawed')
    const states = [one.state(), two.state()].toSorted()
    expect(states).toEqual(['frozen', 'thawed'])
    router.agent = await router.connectAgent()
    router.agent.send({ type: 'instances', instances: [one.address, two.address] })
    const { instances } = await router.agent.heard('load', ({ instances }) => instances.length === 2)
    expect(instances.filter(({ paused }) => paused)).toHaveLength(1)
    expect([one.state(), two.state()].toSorted()).toEqual(states)
  })

  test('that cannot be thawed is reported and left out, and the request goes to another', async () => {
    await using router = await aRouter()
    const one = await startFreezable(router, 'one')
    expect(await pause(router, 'one', 0)).toBe(true)
    unlinkSync(one.address.freezer!.file)
    const asked = router.ask(get(router))
    const report = await router.agent.heard('instance-unreachable')
    expect(report).toMatchObject({ id: 'one', message: expect.stringContaining('cannot be resumed') })
    await router.agent.heard('need')
    await startFreezable(router, 'two')
    expect((await asked).body.toString()).toBe('thawed')
    expect(one.accepted).toBe(0)
  })

  test('that is to end is thawed before it counts as drained', async () => {
    await using router = await aRouter()
    const one = await startFreezable(router, 'one')
    expect(await pause(router, 'one', 0)).toBe(true)
    router.agent.send({ type: 'instance-drain', id: 'one' })
    await router.agent.heard('instance-drained', ({ id }) => id === 'one')
    expect(one.state()).toBe('thawed')
    expect(router.agent.messages.some(({ type }) => type === 'instance-resumed')).toBe(false)
  })

  test('of an earlier router is thawed by the one that meets it', async () => {
    await using router = await aRouter()
    const one = await startFreezable(router, 'one', 'frozen')
    expect((await router.ask(get(router))).body.toString()).toBe('thawed')
    router.agent.send({ type: 'instances', instances: [] })
    await router.agent.heard('instance-drained', ({ id }) => id === 'one')
    writeFileSync(one.address.freezer!.file, 'frozen')
    router.agent.send({ type: 'instances', instances: [one.address] })
    expect((await router.ask(get(router))).body.toString()).toBe('thawed')
  })

  test('whose freezer cannot be written from the start serves, but is never paused', async () => {
    await using router = await aRouter()
    const one = await startFreezable(router, 'one')
    const freezer = { ...one.address.freezer!, file: join(router.directory, 'nowhere', 'file') }
    router.agent.send({ type: 'instance-drain', id: 'one' })
    const two = await startRawInstance(router.socketPath('two'), (socket) =>
      socket.write('HTTP/1.1 204 No Content\r\n\r\n'),
    )
    router.undo.use(two)
    router.up('two', { freezer })
    expect((await router.ask(get(router))).status).toBe(204)
    expect(await pause(router, 'two', 1)).toBe(false)
    expect(router.stderr()).toContain('instance two will not be paused')
  })
})
