/** What `idle: auto` learns survives a restart, and nothing in its file can stop a node. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { ArrivalHistory } from '../../runtime/node/arrival-history.ts'
import { Planner } from '../../runtime/pool/planner.ts'

const HISTORY = { formatVersion: 1, functions: { a: { bins: [[3, 7]], outOfRange: 1 } } }

let root: string
let file: string
let events: string[]
let histories: ArrivalHistory[]
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'isola-arrivals-'))
  file = join(root, 'arrivals.json')
  events = []
  histories = []
})
afterEach(async () => {
  vi.useRealTimers()
  for (const history of histories) await history.stop()
  rmSync(root, { recursive: true, force: true })
})

const planner = (): Planner => new Planner({ budget: { memoryMib: 1_000, cpus: 2 }, startsAtOnceMax: 4 })

function open(keeper: ConstructorParameters<typeof ArrivalHistory>[0]['planner']): ArrivalHistory {
  const history = new ArrivalHistory({ file, planner: keeper, onEvent: (line) => events.push(line) })
  histories.push(history)
  history.start()
  return history
}

describe('the history of arrivals', () => {
  test('is kept at the stop and known to the next planner', async () => {
    const first = planner()
    first.importHistory(HISTORY)
    await open(first).stop()
    const second = planner()
    open(second)
    expect(second.exportHistory()).toEqual(HISTORY)
    expect(events).toEqual([])
    expect(readdirSync(root)).toEqual(['arrivals.json'])
  })

  test.each(['', '{', 'null', '[]', '{"formatVersion":2}', '"text"', '\u0000\u0001'])(
    'that reads %j is left out with a word, and replaced',
    async (text) => {
      writeFileSync(file, text)
      const keeper = planner()
      const history = open(keeper)
      expect(events).toEqual([expect.stringContaining(file)])
      keeper.importHistory(HISTORY)
      await history.stop()
      expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual(HISTORY)
    },
  )

  test('of which a part is damaged keeps the rest', () => {
    writeFileSync(file, JSON.stringify({ ...HISTORY, functions: { ...HISTORY.functions, b: { bins: 'x' } } }))
    const keeper = planner()
    open(keeper)
    expect(keeper.exportHistory()).toEqual(HISTORY)
  })

  test('is written each minute, only when it has changed', async () => {
    vi.useFakeTimers()
    let learnt = 0
    const history = open({
      exportHistory: () => ({ formatVersion: 1, learnt }),
      importHistory: () => undefined,
    })
    await vi.advanceTimersByTimeAsync(60_000)
    await history.save()
    expect(readFileSync(file, 'utf8')).toBe('{"formatVersion":1,"learnt":0}')
    writeFileSync(file, 'untouched')
    await vi.advanceTimersByTimeAsync(60_000)
    await history.save()
    expect(readFileSync(file, 'utf8')).toBe('untouched')
    learnt = 1
    await vi.advanceTimersByTimeAsync(60_000)
    await history.save()
    expect(readFileSync(file, 'utf8')).toBe('{"formatVersion":1,"learnt":1}')
  })

  test('that cannot be written is said, and the node goes on', async () => {
    const keeper = planner()
    const history = open(keeper)
    keeper.importHistory(HISTORY)
    mkdirSync(file)
    await history.save()
    expect(events).toEqual([expect.stringContaining('cannot be kept')])
    expect(readdirSync(root)).toEqual(['arrivals.json'])
  })
})
