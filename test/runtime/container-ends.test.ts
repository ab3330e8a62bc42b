import { spawn } from 'node:child_process'
import { describe, expect, test, vi } from 'vitest'
import { IsolaError } from '../../sdk/model/errors.ts'
import { identifyProcess } from '../../runtime/machine/process-handle.ts'
import { watchContainerEnds } from '../../runtime/container/container-ends.ts'
import { createRemoval } from '../../runtime/container/removal.ts'
import type { ContainerInspection, Engine, WatchOptions } from '../../runtime/container/engine.ts'

/** An engine that says what it is told to say. */
function fakeEngine() {
  let watch: WatchOptions | undefined
  const found = new Map<string, Partial<ContainerInspection>>()
  let isAway = false
  const away = () => new IsolaError('engine_unavailable', 'away')
  const engine = {
    watchContainers(options: WatchOptions) {
      watch = options
      return { stop: () => undefined }
    },
    async inspectContainer(id: string) {
      if (isAway) throw away()
      return found.get(id)
    },
  } as unknown as Engine
  return {
    engine,
    found,
    setAway: (value: boolean) => (isAway = value),
    connect: () => watch!.onConnect(),
    event: (action: 'die' | 'oom' | 'destroy', id: string, exitCode?: number) =>
      watch!.onEvent({ action, id, labels: {}, atMs: 0, ...(exitCode !== undefined && { exitCode }) }),
  }
}

describe('the end of a container', () => {
  test('is what the engine says of it', async () => {
    const { engine, found, event } = fakeEngine()
    const ends = watchContainerEnds({ engine, isolationName: 'n' })
    const ended = ends.watch('a')
    found.set('a', { status: 'exited', exitCode: 3, outOfMemory: false })
    event('die', 'b', 1)
    event('die', 'a', 3)
    expect(await ended).toEqual({ exitCode: 3, outOfMemory: false })
    ends.close()
  })

  test('tells of memory that ran out, also where it cannot be asked any more', async () => {
    const { engine, event, setAway } = fakeEngine()
    const ends = watchContainerEnds({ engine, isolationName: 'n' })
    const ended = ends.watch('a')
    event('oom', 'a')
    setAway(true)
    event('die', 'a', 137)
    expect(await ended).toEqual({ exitCode: 137, outOfMemory: true })
    ends.close()
  })

  test('that came while the engine was away is seen when it is back', async () => {
    const { engine, found, connect } = fakeEngine()
    const ends = watchContainerEnds({ engine, isolationName: 'n' })
    const first = ends.watch('a')
    const second = ends.watch('b')
    let hasSecondEnded = false
    void second.then(() => (hasSecondEnded = true))
    const own = identifyProcess(process.pid)!
    ends.started('a', own)
    ends.started('b', own)
    found.set('a', { status: 'exited', exitCode: 0, outOfMemory: false })
    found.set('b', { status: 'running', exitCode: 0, outOfMemory: false })
    connect()
    expect(await first).toEqual({ exitCode: 0, outOfMemory: false })
    expect(hasSecondEnded).toBe(false)
    ends.close()
  })

  test('one that was made and not yet started has not ended', async () => {
    const { engine, found, connect, event } = fakeEngine()
    const ends = watchContainerEnds({ engine, isolationName: 'n' })
    const ended = ends.watch('a')
    found.set('a', { status: 'created', exitCode: 0, outOfMemory: false })
    connect()
    found.set('a', { status: 'exited', exitCode: 5, outOfMemory: false })
    event('die', 'a', 5)
    expect(await ended).toEqual({ exitCode: 5, outOfMemory: false })
    ends.close()
  })

  test('is seen by its process where the engine says nothing at all', async () => {
    const { engine, setAway } = fakeEngine()
    setAway(true)
    const ends = watchContainerEnds({ engine, isolationName: 'n' })
    const child = spawn('sleep', ['60'])
    const ended = ends.watch('a')
    ends.started('a', identifyProcess(child.pid!)!)
    child.kill('SIGKILL')
    expect(await ended).toEqual({ outOfMemory: false })
    ends.close()
  })

  test('of one that was taken away by others is an end, too', async () => {
    const { engine, event } = fakeEngine()
    const ends = watchContainerEnds({ engine, isolationName: 'n' })
    const ended = ends.watch('a')
    event('destroy', 'a')
    expect(await ended).toEqual({ outOfMemory: false })
    ends.close()
  })
})

describe('the removal of a container', () => {
  test('that failed because the engine was away is made up for when it is back', async () => {
    let isAway = true
    const removed: string[] = []
    const removal = createRemoval({
      async removeContainer(id: string) {
        if (isAway) throw new IsolaError('engine_unavailable', 'away')
        removed.push(id)
      },
    } as unknown as Engine)
    await removal.remove('a')
    expect(removed).toEqual([])
    isAway = false
    removal.retry()
    await vi.waitUntil(() => removed.length === 1)
    removal.retry()
    expect(removed).toEqual(['a'])
  })

  test('is tried again while the engine is still busy with it', async () => {
    let tries = 0
    const removal = createRemoval({
      async removeContainer() {
        tries += 1
        if (tries < 3) throw new IsolaError('internal', 'device or resource busy')
      },
    } as unknown as Engine)
    await removal.remove('a')
    expect(tries).toBe(3)
  })
})
