/** A full node: who gives way, and to whom. Places of 100 MiB, unless said otherwise. */
import { describe, expect, test } from 'vitest'
import { busy, nodeOf, placed } from './full-node.ts'

describe('who rests gives way', () => {
  test('the least recently used of others first, for a request that waits', () => {
    const node = nodeOf(3)
    node.head(placed('a'), placed('b'), placed('c'), placed('d'))
    for (const name of ['b', 'a', 'c']) node.visit(name)
    node.visit('b')
    node.run(20_000)
    node.need('d')
    expect(node.actions('retire')).toHaveLength(1)
    expect(node.actions('retire')[0]!.reason).toMatch(/^at rest for 20\.\d s, .* makes room for "d"$/)
    expect(node.of('a')).toHaveLength(0)
    expect(node.of('d')).toHaveLength(1)
  })

  test('what nobody wants any more before what is idle, and minimums last', () => {
    const node = nodeOf(3)
    node.head(
      placed('kept', { min: 1 }),
      placed('idle'),
      placed('old'),
      placed('x'),
      placed('y'),
      placed('z'),
    )
    node.visit('idle')
    node.visit('old')
    node.head(
      placed('kept', { min: 1 }),
      placed('idle'),
      { ...placed('old'), versionId: 'old2' },
      placed('x'),
      placed('y'),
      placed('z'),
    )
    node.run(1_000)
    for (const name of ['x', 'y', 'z']) {
      node.need(name)
      node.requests(name, 1)
      node.run(100)
    }
    expect(node.actions('retire').map(({ id }) => id)).toEqual(['i3', 'i2', 'i1'])
  })

  test('a minimum does not make way for a minimum, so the two do not chase each other', () => {
    const node = nodeOf(1)
    node.head(placed('a', { min: 1 }))
    node.head(placed('a', { min: 1 }), placed('b', { min: 1 }))
    node.run(60_000)
    expect(node.actions('start')).toHaveLength(1)
    expect(node.status('b')).toMatchObject({
      reason: 'min 1',
      obstacle: expect.stringMatching(
        /^the node is full: 100 MiB of 100 MiB are taken by 1 instances/,
      ) as string,
    })
  })

  test('what nobody waits for takes no place that was used a moment ago', () => {
    const node = nodeOf(2)
    node.head(placed('a'), placed('b'))
    node.visit('a')
    node.visit('b')
    node.head(placed('a'), placed('b', { min: 2 }))
    expect(node.of('a')).toHaveLength(1)
    node.run(1_000)
    expect(node.of('a')).toHaveLength(0)
    expect(node.of('b')).toHaveLength(2)
  })

  test('a flood does not take the instance of a neighbour that is called now and then', () => {
    const node = nodeOf(4)
    node.head(placed('flood'), placed('hello'))
    node.visit('hello')
    node.requests('flood', 3, 1_000)
    for (let second = 0; second < 60; second += 5) {
      node.run(4_800)
      node.visit('hello')
    }
    expect(node.of('flood')).toHaveLength(3)
    expect(node.actions('start').filter(({ functionName }) => functionName === 'hello')).toHaveLength(1)
    // Once it is not called any more, its place is for whoever needs it.
    node.run(11_000)
    expect(node.of('flood')).toHaveLength(4)
  })

  test('instances that grow beyond the budget make those at rest leave, not those that work', () => {
    const node = nodeOf(3)
    node.head(placed('a'), placed('b'), placed('c', { min: 1 }))
    busy(node, 'a', 1)
    node.visit('b')
    node.of('a')[0]!.memoryMib = 150
    node.run(1_000)
    expect(node.of('b')).toHaveLength(0)
    expect(node.of('c')).toHaveLength(1)
    expect(node.actions('retire')[0]!.reason).toBe(
      "at rest, and instances take 350 MiB of the node's 300 MiB",
    )
    node.of('a')[0]!.memoryMib = 400
    node.run(1_000)
    expect(node.of('a')).toHaveLength(1)
    expect(node.of('c')).toHaveLength(0)
  })
})

describe('who holds more than its share gives way', () => {
  test('busy instances of a flood leave one at a time, until the shares are even', () => {
    const node = nodeOf(4)
    node.head(placed('flood'), placed('b'))
    node.requests('flood', 4, 1_000)
    node.run(1_000)
    expect(node.of('flood')).toHaveLength(4)
    node.retires = false
    node.requests('b', 2, 50)
    node.need('b', 50)
    node.run(2_000)
    // One leaves for b, and until it has gone no second one is taken.
    expect(node.actions('retire')).toHaveLength(1)
    expect(node.actions('retire')[0]!.reason).toBe(
      'the node is full and 50 requests wait for "b": "flood" holds 400 MiB at weight 1, "b" holds 0 MiB at weight 1',
    )
    node.retires = true
    node.run(5_000)
    expect([node.of('flood').length, node.of('b').length]).toEqual([2, 2])
    // And there it stays: no move would make it more even.
    const before = node.actions('start').length
    node.run(60_000)
    expect(node.actions('start')).toHaveLength(before)
  })

  test('shares are by weight', () => {
    const node = nodeOf(8)
    node.head(placed('light'), placed('heavy', { weight: 3 }))
    node.requests('light', 8, 1_000)
    node.run(2_000)
    expect(node.of('light')).toHaveLength(8)
    node.requests('heavy', 8, 1_000)
    node.run(20_000)
    expect([node.of('light').length, node.of('heavy').length]).toEqual([2, 6])
  })

  test('memory counts, not heads: who has few large ones holds as much as who has many small ones', () => {
    const node = nodeOf(10)
    node.head(placed('large', {}, 300), placed('small'))
    node.requests('small', 10, 1_000)
    node.run(5_000)
    node.requests('large', 2, 1_000)
    node.run(20_000)
    expect([node.of('large').length, node.of('small').length]).toEqual([1, 7])
  })

  test('a function with a minimum gives what is above it before one gives its minimum', () => {
    const node = nodeOf(4)
    node.head(placed('a', { min: 3 }), placed('b'), placed('c'))
    busy(node, 'a', 3)
    node.requests('c', 1)
    node.run(1_000)
    node.requests('b', 1)
    node.run(2_000)
    // c's only one is above no minimum, but no fair move; a holds three times as much.
    expect([node.of('a').length, node.of('b').length, node.of('c').length]).toEqual([2, 1, 1])
  })

  test('of two that hold as much, the one above its minimum gives', () => {
    const node = nodeOf(4)
    node.head(placed('x', { min: 2, max: 2 }), placed('y', { max: 2 }), placed('b', { max: 1 }))
    busy(node, 'x', 2)
    busy(node, 'y', 2)
    node.requests('x', 0)
    node.run(100)
    node.requests('x', 2)
    for (const instance of node.of('x')) instance.inFlight = 1
    node.run(300)
    busy(node, 'y', 2)
    node.need('b')
    expect([node.of('x').length, node.of('y').length]).toEqual([2, 1])
  })

  test('with fewer places than busy functions each has its turn, heavier ones longer', () => {
    const node = nodeOf(1)
    node.head(placed('a'), placed('b'), placed('c', { weight: 4 }))
    const upMs: Record<string, number> = { a: 0, b: 0, c: 0 }
    for (const name of ['a', 'b', 'c']) node.requests(name, 1)
    for (let step = 0; step < 1_200; step++) {
      node.run(100)
      for (const name of ['a', 'b', 'c']) upMs[name]! += node.of(name).length * 100
    }
    expect(upMs['a']).toBeGreaterThan(5_000)
    expect(upMs['b']).toBeGreaterThan(5_000)
    expect(upMs['c']).toBeGreaterThan(upMs['a']! * 1.5)
    // Turns, not thrash: in two minutes not more changes than two seconds each.
    expect(node.actions('retire').length).toBeLessThanOrEqual(60)
  })

  test('one that wanted more while it had its turn is the last to have the next', () => {
    const node = nodeOf(2)
    const names = ['a', 'b', 'c', 'd', 'e']
    node.head(...names.map((name) => placed(name)))
    const upMs = new Map(names.map((name) => [name, 0]))
    for (const name of names) node.requests(name, 1, 50)
    for (let step = 0; step < 600; step++) {
      node.run(100)
      for (const name of names) upMs.set(name, upMs.get(name)! + node.of(name).length * 100)
    }
    // Two places for a minute: 24 s each, less what the changes take.
    for (const ms of upMs.values()) expect(ms).toBeGreaterThan(16_000)
  })

  test('a new version of a function gets a place from the old one', () => {
    const node = nodeOf(2)
    const half = { percent: 50 }
    node.head({ ...placed('a'), ...half }, { ...placed('a'), ...half, versionId: 'a2' })
    node.requests('a', 2, 100)
    node.run(1_000)
    node.requests('a', 1, 100, 'a2')
    node.run(1_000)
    expect([node.of('a', 'a1').length, node.of('a', 'a2').length]).toEqual([1, 1])
  })

  test('two versions of a function that has one place take turns, whatever waits for them', () => {
    for (const queued of [1, 50]) {
      const node = nodeOf(2)
      const half = { percent: 50 }
      node.head({ ...placed('a'), ...half }, { ...placed('a'), ...half, versionId: 'a2' }, placed('b'))
      node.requests('b', 1, 50)
      node.run(1_000)
      const upMs = { a1: 0, a2: 0 }
      for (let step = 0; step < 300; step++) {
        node.requests('a', 1, queued)
        node.requests('a', 1, queued, 'a2')
        node.run(100)
        for (const id of ['a1', 'a2'] as const) upMs[id] += node.of('a', id).length * 100
      }
      // Half a minute of one place, less what the changes take.
      expect(Math.min(upMs.a1, upMs.a2)).toBeGreaterThan(10_000)
      expect(node.of('b')).toHaveLength(1)
    }
  })
})
