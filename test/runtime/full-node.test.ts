/** A full node: who finds no place, and what those who wait are told. Places of 100 MiB, unless said otherwise. */
import { describe, expect, test } from 'vitest'
import { Timeline } from './planner-timeline.ts'
import { busy, nodeOf, placed } from './full-node.ts'

describe('who finds no place', () => {
  test('is told so once a second while it waits, with the values, and starts as soon as there is one', () => {
    const node = nodeOf(2)
    node.head(placed('a'), placed('b'))
    busy(node, 'b', 1)
    busy(node, 'a', 1)
    node.requests('a', 1, 5)
    node.run(2_500)
    const delays = node.actions('delay')
    expect(delays).toHaveLength(3)
    expect(delays[0]).toEqual({
      type: 'delay',
      versionId: 'a1',
      reason:
        'the node is full: 200 MiB of 200 MiB are taken by 2 instances, and another of "a" needs 100 MiB',
    })
    expect(node.status('a')?.obstacle).toContain('the node is full')
    node.requests('b', 0)
    node.stop(node.of('b')[0]!)
    expect(node.of('a')).toHaveLength(2)
    node.run(1_000)
    expect(node.actions('delay')).toHaveLength(3)
  })

  test('a place that is being freed is for whom it is freed, not for who comes later', () => {
    const node = nodeOf(2)
    node.head(placed('flood'), placed('b'))
    node.requests('flood', 2, 1_000)
    node.run(1_000)
    node.retires = false
    node.need('b')
    const [leaving] = [...node.instances.values()].filter((instance) => instance.leaving)
    node.need('flood', 2_000)
    node.stop(leaving!)
    expect([node.of('flood').length, node.of('b').length]).toEqual([1, 1])
  })

  test('what lies beyond all promises is for everybody', () => {
    const node = new Timeline({ budget: { memoryMib: 550, cpus: 4 }, startsAtOnceMax: 100 })
    node.retires = false
    node.head(
      placed('flood', { max: 4 }),
      placed('large', { max: 1 }, 200),
      placed('small', {}, 50),
      placed('other'),
    )
    busy(node, 'flood', 4)
    node.requests('large', 0, 1)
    node.need('large')
    expect(node.of('flood')).toHaveLength(3)
    // 150 MiB are free and 100 more leave; 200 of them are promised.
    node.need('other')
    expect(node.of('other')).toHaveLength(0)
    node.need('small')
    expect(node.of('small')).toHaveLength(1)
    node.retires = true
    node.run(100)
    expect(node.of('large')).toHaveLength(1)
  })

  test('one busy instance at a time leaves for a function, also where one is not enough', () => {
    const node = nodeOf(10)
    node.head(placed('small', { max: 10 }), placed('large', { max: 1 }, 300))
    busy(node, 'small', 10)
    node.retires = false
    node.requests('large', 0, 1)
    node.run(2_000)
    expect(node.actions('retire')).toHaveLength(1)
    node.retires = true
    node.run(1_000)
    expect(node.actions('retire')).toHaveLength(3)
    expect(node.of('large')).toHaveLength(1)
  })

  test('room that comes at once is shared', () => {
    const node = nodeOf(4)
    node.head(placed('large', {}, 400), placed('a'), placed('b'))
    busy(node, 'large', 1)
    node.retires = false
    node.need('a', 4)
    node.need('b', 4)
    node.stop([...node.instances.values()][0]!)
    expect([node.of('a').length, node.of('b').length]).toEqual([2, 2])
  })

  test('a version that the head does not name any more keeps its place among those who wait', () => {
    const node = nodeOf(1)
    node.head(placed('a'), placed('b'))
    busy(node, 'a', 1)
    node.need('b', 1, 'b-before')
    node.run(1_500)
    expect(node.of('b')).toHaveLength(0)
    node.requests('a', 0)
    node.stop(node.of('a')[0]!)
    expect(node.of('b', 'b-before')).toHaveLength(1)
  })

  test('for what was found before the first head memory is set aside too', () => {
    const node = nodeOf(2)
    node.find('a')
    node.head(placed('a', { min: 1 }), placed('b', { min: 2 }))
    expect([node.of('a').length, node.of('b').length]).toEqual([1, 1])
  })

  test('one that can never fit is refused at once, with the values', () => {
    const node = nodeOf(2)
    node.head(placed('a', {}, 201))
    expect(node.need('a')).toContainEqual({
      type: 'refuse',
      versionId: 'a1',
      code: 'node_full',
      message:
        'an instance of "a" is expected to take 201 MiB and the node has 200 MiB for all: give it less memory or the node more',
      retryAfterMs: 10_000,
    })
    expect(node.actions('start')).toEqual([])
  })

  test('measured memory is charged where it is more than what was set aside', () => {
    const node = nodeOf(3)
    node.head(placed('a'), placed('b', { max: 1 }))
    busy(node, 'a', 1)
    node.of('a')[0]!.memoryMib = 201
    node.measure()
    node.requests('b', 0, 1)
    node.need('b')
    expect(node.of('b')).toHaveLength(0)
    node.of('a')[0]!.memoryMib = 50
    node.run(1_000)
    expect(node.of('b')).toHaveLength(1)
  })

  test('a driver without a place is believed for a second, or until an instance ends', () => {
    const node = nodeOf(10)
    node.startMs = Infinity
    node.head(placed('a', { max: 1 }), placed('b', { max: 1 }))
    node.need('a')
    const actions = node.failStart(node.pending.shift()!, 'no uid is free', 'full')
    expect(actions).toContainEqual({
      type: 'delay',
      versionId: 'a1',
      reason: 'the machine had no place for another instance, and another of "a" needs 100 MiB',
    })
    node.requests('a', 0, 1)
    node.run(900)
    expect(node.pending).toHaveLength(0)
    node.run(200)
    expect(node.pending).toHaveLength(1)
    node.need('b')
    const [a, b] = node.pending.splice(0)
    const first = node.answerStart(a!)
    node.failStart(b!, 'no uid is free', 'full')
    expect(node.pending).toHaveLength(0)
    node.requests('a', 0)
    node.stop(first)
    expect(node.pending.map(({ functionName }) => functionName)).toContain('b')
  })

  test('a driver without a place is not asked again at once for what is expected to take nothing', () => {
    const node = nodeOf(10)
    node.startMs = Infinity
    node.head(placed('a', {}, 0))
    node.need('a')
    node.failStart(node.pending.shift()!, 'no uid is free', 'full')
    expect(node.pending).toHaveLength(0)
  })

  test('the budget is never passed by starts, whoever asks', () => {
    const node = nodeOf(7)
    node.startMs = 300
    const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j']
    node.head(...names.map((name, index) => placed(name, { weight: 1 + (index % 3) }, 60 + index * 10)))
    for (let step = 0; step < 400; step++) {
      const name = names[(step * 7) % names.length]!
      node.requests(name, step % 4, step % 3 === 0 ? 5 : 0)
      node.run(100)
      let chargedMib = 0
      for (const { functionName } of [...node.instances.values(), ...node.pending]) {
        chargedMib += 60 + names.indexOf(functionName) * 10
      }
      expect(chargedMib).toBeLessThanOrEqual(700)
    }
    expect(node.actions('start').length).toBeGreaterThan(20)
  })
})
