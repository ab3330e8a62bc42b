import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createEngine } from '../../runtime/container/engine-client.ts'
import type { ContainerEvent, Engine, OutputOptions } from '../../runtime/container/engine.ts'
import { OUTPUT_LIMITS } from '../../sdk/model/limits.ts'
import { describeEngine, openEngine, type EnginePlace } from '../harness/engine.ts'

type Line = Parameters<OutputOptions['onLine']>[0]

/** In front of the engine's socket; what goes through it can be cut. */
interface Passage {
  readonly socketPath: string
  /** Nobody listens until `open`. */
  cut(): void
  open(): Promise<void>
  close(): void
}

async function openPassage(target: string): Promise<Passage> {
  const directory = mkdtempSync(join(tmpdir(), 'isola-passage-'))
  const socketPath = join(directory, 'engine.sock')
  const sockets = new Set<Socket>()
  let server: Server
  const open = async (): Promise<void> => {
    server = createServer((inside) => {
      const outside = connect(target)
      for (const [from, to] of [
        [inside, outside],
        [outside, inside],
      ] as const) {
        sockets.add(from)
        from.pipe(to)
        from.on('error', () => to.destroy())
        from.on('close', () => {
          to.destroy()
          sockets.delete(from)
        })
      }
    })
    server.listen(socketPath)
    await once(server, 'listening')
  }
  const cut = (): void => {
    server.close()
    for (const socket of sockets) socket.destroy()
  }
  await open()
  return {
    socketPath,
    cut,
    open,
    close() {
      cut()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

describeEngine('what the engine tells', () => {
  let place: EnginePlace
  let passage: Passage
  let engine: Engine
  beforeAll(async () => {
    place = await openEngine()
    passage = await openPassage(place.socketPath)
    engine = createEngine({ socketPath: passage.socketPath })
    await place.image()
  })
  afterAll(async () => {
    passage.close()
    await place.close()
  })

  async function outputOf(id: string): Promise<readonly Line[]> {
    const lines: Line[] = []
    await engine.readOutput(id, { sinceMs: 0, onLine: (line) => lines.push(line) }).ended
    return lines
  }

  test('output comes line by line from both streams, with its time, and the last line needs no end', async () => {
    const id = await place.run('echo one; echo two >&2; printf "three\\n\\n"; printf four')
    const lines = await outputOf(id)
    const textsOf = (stream: Line['stream']): string[] =>
      lines.filter((line) => line.stream === stream).map(({ text }) => text)
    expect(textsOf('stdout')).toEqual(['one', 'three', '', 'four'])
    expect(textsOf('stderr')).toEqual(['two'])
    for (const { atMs } of lines) expect(Math.abs(atMs - Date.now())).toBeLessThan(60_000)
  })

  test('a line of many pieces is one line, and one beyond the bound is cut', async () => {
    const long = 40_000
    const tooLong = OUTPUT_LIMITS.lineBytesMax + 50_000
    const id = await place.run(
      `head -c ${long} /dev/zero | tr "\\0" a; echo; head -c ${tooLong} /dev/zero | tr "\\0" b; echo; echo after`,
    )
    const lines = await outputOf(id)
    expect(lines.map(({ text }) => [text.length, text.slice(0, 5)])).toEqual([
      [long, 'aaaaa'],
      [OUTPUT_LIMITS.lineBytesMax, 'bbbbb'],
      [5, 'after'],
    ])
  })

  test('a thousand lines of two streams at once come whole and in order', async () => {
    const id = await place.run(
      'i=0; while [ $i -lt 500 ]; do echo "out $i"; echo "err $i" >&2; i=$((i+1)); done',
    )
    const lines = await outputOf(id)
    for (const stream of ['stdout', 'stderr'] as const) {
      expect(lines.filter((line) => line.stream === stream).map(({ text }) => text)).toEqual(
        Array.from({ length: 500 }, (_, index) => `${stream.slice(3)} ${index}`),
      )
    }
  })

  test('output goes on where it was when the connection broke: nothing is lost, nothing comes twice', async () => {
    const id = await place.run('i=0; while [ $i -lt 40 ]; do echo $i; i=$((i+1)); sleep 0.05; done')
    const texts: string[] = []
    let cuts = 0
    const reading = engine.readOutput(id, {
      sinceMs: 0,
      onLine({ text }) {
        texts.push(text)
        if (texts.length !== 5 && texts.length !== 20) return
        cuts++
        passage.cut()
        void passage.open()
      },
    })
    await reading.ended
    expect(cuts).toBe(2)
    expect(texts).toEqual(Array.from({ length: 40 }, (_, index) => String(index)))
  })

  test('reading stops when told, and ends at once for a container that is gone', async () => {
    const id = await place.run('while :; do echo again; sleep 0.02; done')
    const lines: Line[] = []
    const first = Promise.withResolvers<void>()
    const reading = engine.readOutput(id, {
      sinceMs: 0,
      onLine(line) {
        lines.push(line)
        first.resolve()
      },
    })
    await first.promise
    reading.stop()
    await reading.ended
    const countAtStop = lines.length
    await place.engine.removeContainer(id)
    await outputOf(id)
    expect(lines.length).toBe(countAtStop)
  })

  test('events of one’s own containers come, with exit code and labels, also those that came while nobody listened', async () => {
    const { labels } = place
    const events: ContainerEvent[] = []
    const connects: string[] = []
    let next = Promise.withResolvers<void>()
    const changed = async (isThere: () => boolean): Promise<void> => {
      while (!isThere()) {
        await next.promise
        next = Promise.withResolvers<void>()
      }
    }
    const note = (what: string): void => {
      connects.push(what)
      next.resolve()
    }
    const watch = engine.watchContainers({
      labels,
      onEvent(event) {
        events.push(event)
        next.resolve()
      },
      onConnect: () => note('connect'),
      onDisconnect: () => note('disconnect'),
    })
    await changed(() => connects.includes('connect'))
    const first = await place.run('exit 3', { labels: { 'isola.id': 'first' } })
    await changed(() => events.some(({ action, id }) => action === 'die' && id === first))

    passage.cut()
    await changed(() => connects.includes('disconnect'))
    const second = await place.run('exit 4', { labels: { 'isola.id': 'second' } })
    await expect.poll(async () => (await place.engine.inspectContainer(second))?.status).toBe('exited')
    expect(events.some(({ id }) => id === second)).toBe(false)
    await passage.open()
    await changed(() => events.some(({ action, id }) => action === 'die' && id === second))
    await place.engine.removeContainer(second)
    await changed(() => events.some(({ action, id }) => action === 'destroy' && id === second))
    watch.stop()

    const of = (wanted: string): unknown[] =>
      events.filter(({ id }) => id === wanted).map(({ action, exitCode }) => [action, exitCode])
    expect(of(first)).toEqual([
      ['start', undefined],
      ['die', 3],
    ])
    expect(of(second)).toEqual([
      ['start', undefined],
      ['die', 4],
      ['destroy', undefined],
    ])
    expect(events.at(-1)?.labels).toEqual({ ...labels, 'isola.id': 'second' })
    expect(connects.filter((what) => what === 'connect')).toHaveLength(2)
    await place.engine.removeContainer(first)
  })
})
