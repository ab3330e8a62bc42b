import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { describeEngine, openEngine, type EnginePlace } from '../harness/engine.ts'

describeEngine('containers of the engine', () => {
  let place: EnginePlace
  beforeAll(async () => {
    place = await openEngine()
  })
  afterAll(() => place.close())

  test('a container is made, runs, is killed once and is removed, and what is gone is no error', async () => {
    const { engine } = place
    const id = await place.run('trap "exit 7" TERM; while :; do sleep 0.05; done', {
      labels: { 'isola.kind': 'instance' },
      hostConfig: { NetworkMode: 'none', Memory: 64 * 1024 * 1024 },
    })
    const running = await engine.inspectContainer(id)
    expect(running).toMatchObject({
      id,
      status: 'running',
      exitCode: 0,
      outOfMemory: false,
      error: '',
      imageId: await place.image(),
      labels: { ...place.labels, 'isola.kind': 'instance' },
    })
    expect(running?.pid).toBeGreaterThan(1)
    expect(Math.abs((running?.startedAtMs ?? 0) - Date.now())).toBeLessThan(60_000)

    expect(await engine.killContainer(id, 'SIGKILL')).toBe(true)
    await engine.readOutput(id, { sinceMs: 0, onLine: () => undefined }).ended
    await expect
      .poll(() => engine.inspectContainer(id))
      .toMatchObject({ status: 'exited', exitCode: 137, pid: 0 })
    expect(await engine.killContainer(id, 'SIGKILL')).toBe(false)

    await engine.removeContainer(id)
    await engine.removeContainer(id)
    expect(await engine.inspectContainer(id)).toBeUndefined()
    expect(await engine.killContainer(id, 'SIGTERM')).toBe(false)
  })

  test('containers are listed by all of their labels, running or not', async () => {
    const { engine, labels } = place
    const kind = { 'isola.kind': `kind-${randomBytes(4).toString('hex')}` }
    const ended = await place.run('exit 0', { labels: kind })
    const running = await place.run('sleep 60', { labels: kind })
    const other = await place.run('sleep 60')
    await expect.poll(async () => (await engine.inspectContainer(ended))?.status).toBe('exited')
    const found = await engine.listContainers({ ...labels, ...kind })
    expect(Object.fromEntries(found.map(({ id, running: isRunning }) => [id, isRunning]))).toEqual({
      [ended]: false,
      [running]: true,
    })
    expect(await engine.listContainers({ ...labels, 'isola.kind': 'none-such' })).toEqual([])
    for (const id of [ended, running, other]) await engine.removeContainer(id)
  })

  test('a name that is taken is a conflict', async () => {
    const name = `isola-${place.isolationName}-once`
    const id = await place.run('exit 0', { name })
    await expect(place.run('exit 0', { name })).rejects.toMatchObject({ code: 'conflict' })
    await place.engine.removeContainer(id)
  })

  test('an image that is not there is named', async () => {
    const made = place.engine.createContainer(`isola-${place.isolationName}-none`, {
      Image: 'isola-no-such-image:1',
      Labels: place.labels,
      HostConfig: {},
    })
    await expect(made).rejects.toMatchObject({
      code: 'image_not_found',
      message: expect.stringContaining('isola-no-such-image:1') as string,
    })
  })

  test('a command that cannot be run fails the start with the engine’s words', async () => {
    const id = await place.engine.createContainer(`isola-${place.isolationName}-bad`, {
      Image: await place.image(),
      Entrypoint: ['/bin/no-such-program'],
      Labels: place.labels,
      HostConfig: { NetworkMode: 'none' },
    })
    await expect(place.engine.startContainer(id)).rejects.toMatchObject({
      code: 'start_failed',
      message: expect.stringContaining('no-such-program') as string,
    })
    await place.engine.removeContainer(id)
  })

  test('a container that ran out of memory says so', async () => {
    const id = await place.run('head -c 200m /dev/zero | tail -c 100m; x=$(cat /dev/zero | tr "\\0" a)', {
      hostConfig: { NetworkMode: 'none', Memory: 16 * 1024 * 1024, MemorySwap: 16 * 1024 * 1024 },
    })
    await expect
      .poll(() => place.engine.inspectContainer(id), { timeout: 30_000 })
      .toMatchObject({ status: 'exited', outOfMemory: true })
    await place.engine.removeContainer(id)
  })

  test('a network is made once, found by its labels, and removed', async () => {
    const { engine, isolationName, labels } = place
    const name = `isola-${isolationName}`
    const spec = {
      internal: true,
      bridgeName: `it${randomBytes(4).toString('hex')}`,
      labels,
      options: { 'com.docker.network.bridge.enable_icc': 'false' },
    }
    const id = await engine.ensureNetwork(name, spec)
    expect(await engine.ensureNetwork(name, spec)).toBe(id)
    expect(await engine.listNetworks(labels)).toEqual([{ id, name }])
    await engine.removeNetwork(name)
    await engine.removeNetwork(name)
    expect(await engine.listNetworks(labels)).toEqual([])
  })

  test('twenty calls at a time are all answered', async () => {
    const answers = await Promise.all(Array.from({ length: 20 }, () => place.engine.info()))
    expect(new Set(answers.map(({ apiVersion }) => apiVersion)).size).toBe(1)
    expect(answers[0]?.apiVersion).toMatch(/^1\.4\d$/)
  })
})
