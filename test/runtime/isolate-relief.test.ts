import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { INSTANCE_SOCKETS } from '../../runtime/isolate/config.ts'
import { askGuest } from '../../runtime/isolate/control-request.ts'
import { createRelief } from '../../runtime/isolate/relief.ts'
import { withRunningGuest } from '../harness/guest-instance.ts'

const MIB = 1024 * 1024

describe('relief', () => {
  test('is asked for from 60 % of the limit on, and at most four times a second', () => {
    const asked: number[] = []
    let nowMs = 0
    const relief = createRelief({ limitBytes: 100 * MIB, collect: () => asked.push(nowMs) > 0 })
    const timeline = [
      [0, 59],
      [10, 60],
      [20, 99],
      [259, 99],
      [260, 70],
      [600, 20],
      [700, 61],
    ] as const
    for (const [atMs, memoryMib] of timeline) {
      nowMs = atMs
      relief.observe(memoryMib * MIB, nowMs)
    }
    expect(asked).toEqual([10, 260, 700])
  })

  test('is asked for again only when a quarter of the room that was left is filled', () => {
    const asked: number[] = []
    const relief = createRelief({ limitBytes: 100 * MIB, collect: () => asked.push(atMib) > 0 })
    let atMib = 0
    const measured = [80, 81, 80, 84, 85, 86, 86, 89, 90, 40, 59, 60]
    measured.forEach((memoryMib, second) => {
      atMib = memoryMib
      relief.observe(memoryMib * MIB, second * 1_000)
    })
    // In use after the first: 80, so the next is due at 85; then 85 and 88.75; after 40 the share of the limit decides.
    expect(asked).toEqual([80, 85, 89, 60])
  })

  test('is still due where the instance could not be asked', () => {
    const answers = [false, false, true]
    let asked = 0
    const relief = createRelief({ limitBytes: 100 * MIB, collect: () => answers[asked++]! })
    for (let nowMs = 0; nowMs < 1_000; nowMs += 50) relief.observe(70 * MIB, nowMs)
    expect(asked).toBe(3)
  })

  test('makes an instance give up what nobody uses, without a request', () =>
    withRunningGuest(
      `let held = Array.from({ length: 60 }, (_, index) => new Array(250_000).fill(index))
       export default { fetch() { held = undefined; return new Response('dropped') } }`,
      async (instance) => {
        const privateMib = (): number =>
          Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${instance.pid}/status`, 'utf8'))?.[1]) / 1024
        await instance.get('/')
        const beforeMib = privateMib()
        expect(beforeMib).toBeGreaterThan(40)
        const status = await askGuest(join(instance.directory, INSTANCE_SOCKETS.control), 5_000, '/collect')
        expect(status).toEqual({ handlers: ['fetch'], pending: 0 })
        await expect.poll(privateMib).toBeLessThan(beforeMib / 2)
      },
    ))
})
