import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createEngine, DEFAULT_ENGINE_SOCKET } from '../../runtime/container/engine-client.ts'
import { LAMBDA_HEADERS } from '../../runtime/lambda/wire.ts'
import {
  codeVersion,
  openContainerPlace,
  serverVersion,
  type ContainerPlace,
} from '../harness/container-driver.ts'
import { describeEngine } from '../harness/engine.ts'
import { engineDoor, type EngineDoor } from '../harness/engine-door.ts'
import { ask } from '../harness/isolate-driver.ts'

const HELLO = "export const handler = async () => 'hello'"
const event = { [LAMBDA_HEADERS.invoke]: 'event' }

let directory: string
let door: EngineDoor
let place: ContainerPlace | undefined
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'isc-'))
  door = engineDoor({ socketPath: join(directory, 'engine.sock'), enginePath: DEFAULT_ENGINE_SOCKET })
})
afterEach(async () => {
  await door.close()
  await door.open()
  await place?.end()
  place = undefined
  await door.close()
  rmSync(directory, { recursive: true, force: true })
})
const open = async (options: { readonly isolationName?: string } = {}): Promise<ContainerPlace> =>
  (place = await openContainerPlace({
    ...options,
    directory,
    engine: createEngine({ socketPath: door.socketPath }),
  }))

describeEngine('an engine that is away', () => {
  test('when the node starts is no hindrance, is named by a start, and serves as soon as it is there', async () => {
    const { driver, blanks } = await open()
    expect(await driver.adopt()).toEqual([])
    driver.keepBlanks('nodejs24/256/64', 1)
    const version = await codeVersion(HELLO)
    await expect(driver.start(version)).rejects.toMatchObject({
      code: 'engine_unavailable',
      message: expect.stringContaining('isola doctor') as string,
    })
    expect(driver.blanks()).toEqual([])
    expect(readdirSync(join(directory, 'd', 'containers'))).toEqual([])
    await door.open()
    await blanks(1)
    const instance = await driver.start(version)
    expect((await ask(instance.socketPath, '/', event)).text).toBe('"hello"')
  })

  test('takes no running instance along; one that ends meanwhile is seen, and removed when it is back', async () => {
    await door.open()
    const { driver, containers } = await open()
    const instance = await driver.start(await codeVersion(HELLO))
    const server = await driver.start(
      await serverVersion(
        place!.engine,
        "require('http').createServer((q, s) => s.end('served')).listen(8080)",
      ),
    )
    await door.close()
    expect((await ask(instance.socketPath, '/', event)).text).toBe('"hello"')
    expect((await ask(server.socketPath)).text).toBe('served')
    await expect(driver.start(await codeVersion(HELLO))).rejects.toMatchObject({ code: 'engine_unavailable' })
    process.kill(instance.pid, 'SIGKILL')
    expect(await instance.exited).toMatchObject({ cause: 'crashed' })
    expect(await server.stop({ graceMs: 1_000 })).toMatchObject({ cause: 'stopped' })
    await door.open()
    await expect.poll(containers, { timeout: 20_000 }).toEqual([])
  })

  test('when the node starts leaves nothing of an earlier agent once it is there', async () => {
    await door.open()
    const isolationName = `test-${process.pid}-${directory.slice(-6).toLowerCase()}`
    const engine = createEngine({ socketPath: DEFAULT_ENGINE_SOCKET })
    const { imageId } = { imageId: 'isola-runtime-nodejs24:latest' }
    await serverVersion(engine, '')
    const id = await engine.createContainer(`isola-${isolationName}-000000000000`, {
      Image: imageId,
      Entrypoint: ['node', '-e', 'setInterval(() => {}, 1000)'],
      Labels: { 'isola.node': isolationName, 'isola.kind': 'blank', 'isola.id': '000000000000' },
      HostConfig: { NetworkMode: 'none' },
    })
    await engine.startContainer(id)
    await door.close()
    const { driver } = await open({ isolationName })
    expect(await driver.adopt()).toEqual([])
    expect((await engine.inspectContainer(id))?.status).toBe('running')
    await door.open()
    await expect.poll(() => engine.inspectContainer(id), { timeout: 20_000 }).toBeUndefined()
  })
})
