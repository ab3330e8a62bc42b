import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, test, vi } from 'vitest'
import { blankClassOf, nameBlankClass, parseBlankClass } from '../../runtime/container/blank-class.ts'
import { createBlanks, type Blank } from '../../runtime/container/blanks.ts'
import { createStartGate } from '../../runtime/container/start-gate.ts'
import { DEFAULT_CONTAINER_SETTINGS, type ContainerContent } from '../../sdk/model/function.ts'

const archive = { sha256: '0'.repeat(64), sizeBytes: 1 }
const content = (changes: Partial<ContainerContent>): ContainerContent => ({
  kind: 'container',
  protocol: 'lambda',
  source: { type: 'code', runtime: 'nodejs24', handler: 'index.handler', archive },
  bindings: [],
  limits: {},
  settings: DEFAULT_CONTAINER_SETTINGS,
  ...changes,
})
const image = { type: 'image', imageId: `sha256:${'0'.repeat(64)}` } as const

describe('the class of blank that a version begins as', () => {
  test.each([
    ['code: a runtime of its size', content({}), 'nodejs24/256/64'],
    [
      'code that reaches out: a sandbox with a network',
      content({ settings: { ...DEFAULT_CONTAINER_SETTINGS, egress: true } }),
      'sandbox-egress',
    ],
    ['an image: a sandbox', content({ source: image }), 'sandbox'],
    [
      'an image that listens elsewhere: a sandbox that leads there',
      content({
        source: image,
        protocol: 'http',
        settings: { ...DEFAULT_CONTAINER_SETTINGS, port: 3000 },
      }),
      'sandbox/3000',
    ],
    [
      'events need no port',
      content({ source: image, settings: { ...DEFAULT_CONTAINER_SETTINGS, port: 3000 } }),
      'sandbox',
    ],
  ])('%s', (_, version, name) => {
    const blankClass = blankClassOf(version, 256)
    expect(nameBlankClass(blankClass)).toBe(name)
    expect(parseBlankClass(name)).toEqual(blankClass)
  })

  test.each([
    'worker',
    'nodejs24',
    'nodejs24/256',
    'nodejs24/256/64/1',
    'nodejs24/x/64',
    'ruby/1/1',
    'sandbox/0',
  ])('%s is none', (name) => {
    expect(parseBlankClass(name)).toBeUndefined()
  })
})

interface TestBlank extends Blank {
  end(): void
}

function blanksOf(make: (blankClass: string) => Promise<void> = async () => undefined) {
  const made: (TestBlank & { readonly blankClass: string })[] = []
  const discarded: string[] = []
  const blanks = createBlanks<TestBlank>({
    untilCleared: () => undefined,
    async make(blankClass) {
      await make(blankClass)
      const ended = Promise.withResolvers<void>()
      const id = `${blankClass}-${made.length}`
      const blank = {
        id,
        blankClass,
        pid: 1,
        ended: ended.promise,
        end: ended.resolve,
        usage: () => ({ memoryBytes: 0, cpuMs: 0 }),
        discard: async () => void discarded.push(id),
      }
      made.push(blank)
      return blank
    },
  })
  const ids = () => blanks.waiting().map(({ blank }) => blank.id)
  return { blanks, made, discarded, ids }
}

describe('blanks', () => {
  test('are made until as many wait as are wanted, and given back when fewer are', async () => {
    const { blanks, discarded, ids } = blanksOf()
    blanks.keep('a', 2)
    blanks.keep('b', 1)
    await vi.waitUntil(() => ids().length === 3)
    blanks.keep('a', 1)
    expect(discarded).toEqual(['a-0'])
    blanks.keep('a', 0)
    expect(ids()).toEqual([expect.stringMatching(/^b/)])
    blanks.close()
    expect(ids()).toEqual([])
    expect(discarded).toHaveLength(3)
  })

  test('are claimed once, the oldest first, and another takes the place', async () => {
    const { blanks, ids } = blanksOf()
    blanks.keep('a', 2)
    await vi.waitUntil(() => ids().length === 2)
    expect(blanks.claim('a')?.id).toBe('a-0')
    expect(blanks.claim('a')?.id).toBe('a-1')
    expect(blanks.claim('a')).toBeUndefined()
    expect(blanks.claim('b')).toBeUndefined()
    await vi.waitUntil(() => ids().length === 2)
    blanks.close()
  })

  test('one that ends by itself waits no more, and is replaced', async () => {
    const { blanks, made, discarded, ids } = blanksOf()
    blanks.keep('a', 1)
    await vi.waitUntil(() => ids().length === 1)
    made[0]!.end()
    await vi.waitUntil(() => ids()[0] === 'a-1', { timeout: 10_000 })
    expect(discarded).toEqual(['a-0'])
    blanks.close()
  })

  test('a class that cannot be made holds no other back', async () => {
    const tried: string[] = []
    const { blanks, ids } = blanksOf(async (blankClass) => {
      tried.push(blankClass)
      if (blankClass === 'broken') throw new Error('no such runtime')
    })
    blanks.keep('broken', 1)
    blanks.keep('whole', 2)
    await vi.waitUntil(() => ids().length === 2)
    expect(tried.filter((blankClass) => blankClass === 'broken')).toHaveLength(1)
    blanks.close()
  })

  test('what failed is tried at once when there is reason to', async () => {
    let isAway = true
    let tries = 0
    const { blanks, ids } = blanksOf(async () => {
      tries += 1
      if (isAway) throw new Error('the engine is away')
    })
    blanks.keep('a', 1)
    await vi.waitUntil(() => tries === 1)
    isAway = false
    blanks.retry()
    await vi.waitUntil(() => ids().length === 1)
    blanks.close()
  })

  test('one that is ready only when nobody wants it any more is discarded', async () => {
    const gate = Promise.withResolvers<void>()
    let begun = false
    const { blanks, discarded, ids } = blanksOf(() => {
      begun = true
      return gate.promise
    })
    blanks.keep('a', 1)
    await vi.waitUntil(() => begun)
    blanks.keep('a', 0)
    gate.resolve()
    await vi.waitUntil(() => discarded.length === 1)
    expect(ids()).toEqual([])
    blanks.close()
  })
})

describe('starts at a time', () => {
  test('are as many as allowed, and one that somebody waits for goes before a refill', async () => {
    const gate = createStartGate(1)
    const order: string[] = []
    const first = Promise.withResolvers<void>()
    const run = (name: string, urgent: boolean, until?: Promise<void>) =>
      gate.run({ urgent }, async () => {
        order.push(name)
        await until
      })
    const all = [run('first', false, first.promise), run('refill', false), run('start', true)]
    await turn()
    expect(order).toEqual(['first'])
    first.resolve()
    await Promise.all(all)
    expect(order).toEqual(['first', 'start', 'refill'])
  })

  test('a refill waits while a start is under way, though there is room, and not for ever', async () => {
    const patient = createStartGate(2, { refillWaitMs: 60_000 })
    const start = Promise.withResolvers<void>()
    let hasRefilled = false
    const refill = (gate: ReturnType<typeof createStartGate>) =>
      gate.run({ urgent: false }, async () => void (hasRefilled = true))
    const both = [patient.run({ urgent: true }, () => start.promise), refill(patient)]
    await turn()
    expect(hasRefilled).toBe(false)
    start.resolve()
    await Promise.all(both)
    expect(hasRefilled).toBe(true)

    const impatient = createStartGate(2, { refillWaitMs: 1 })
    const endless = Promise.withResolvers<void>()
    const running = impatient.run({ urgent: true }, () => endless.promise)
    hasRefilled = false
    await refill(impatient)
    expect(hasRefilled).toBe(true)
    endless.resolve()
    await running
  })

  test('one that fails lets the next in', async () => {
    const gate = createStartGate(1)
    await expect(gate.run({ urgent: true }, () => Promise.reject(new Error('no')))).rejects.toThrow('no')
    expect(await gate.run({ urgent: false }, async () => 'in')).toBe('in')
  })
})
