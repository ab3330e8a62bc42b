import { expect, test } from 'vitest'
import { CrashLoops } from '../../runtime/pool/crash-loop.ts'

test('a start that failed is never forgiven: half a second, doubled by each further one, at most a minute', () => {
  const loops = new CrashLoops()
  const waits: number[] = []
  for (let nowMs = 0; waits.length < 9; nowMs += 60_000)
    waits.push(loops.onStartFailed('v', 'no handler', nowMs))
  expect(waits).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000])
})

test('four crashes in a row are forgiven, the fifth is not', () => {
  const loops = new CrashLoops()
  const waits = [1, 2, 3, 4, 5, 6].map((count) => loops.onCrash('v', 'exit code 1', count * 10_000))
  expect(waits).toEqual([0, 0, 0, 0, 500, 1_000])
})

test('forgiven crashes bar nothing; then there is a wait, with its message, and one probe until it answers', () => {
  const loops = new CrashLoops()
  for (let count = 0; count < 4; count++) loops.onCrash('v', 'exit code 1', count)
  expect(loops.check('v', 10)).toEqual({ type: 'any' })
  loops.onCrash('v', 'exit code 2', 10)
  expect(loops.check('v', 110)).toEqual({ type: 'none', waitMs: 400, message: 'exit code 2' })
  expect(loops.check('v', 510)).toEqual({ type: 'probe', message: 'exit code 2', faultAtMs: 10 })
  expect(loops.check('w', 110)).toEqual({ type: 'any' })
  loops.onAnswer('v', 510)
  expect(loops.check('v', 510)).toEqual({ type: 'any' })
})

test('an answer does not end the row: a version that answers a little and crashes waits longer each time', () => {
  const loops = new CrashLoops()
  loops.onStartFailed('v', 'x', 0)
  loops.onAnswer('v', 600)
  expect(loops.onStartFailed('v', 'x', 1_000)).toBe(1_000)
  loops.onHealthy('v', 1_000)
  expect(loops.check('v', 1_001)).toEqual({ type: 'any' })
  expect(loops.onStartFailed('v', 'x', 2_000)).toBe(500)
})

test('an instance from before the last fault says nothing about the next start', () => {
  const loops = new CrashLoops()
  loops.onStartFailed('v', 'x', 1_000)
  loops.onAnswer('v', 999)
  loops.onHealthy('v', 999)
  expect(loops.check('v', 5_000).type).toBe('probe')
})

test('instances that fail together are one fault', () => {
  const loops = new CrashLoops()
  loops.onStartFailed('v', 'x', 0)
  expect(loops.onStartFailed('v', 'x', 100)).toBe(400)
  expect(loops.onStartFailed('v', 'x', 200)).toBe(300)
  expect(loops.onStartFailed('v', 'x', 500)).toBe(1_000)
})

test('what nobody asked for since is forgotten ten minutes after its wait', () => {
  const loops = new CrashLoops()
  loops.onStartFailed('v', 'x', 0)
  loops.forgetOld(600_499)
  expect(loops.size).toBe(1)
  loops.forgetOld(600_500)
  expect(loops.size).toBe(0)
})

test('a thousand failing versions are remembered; of more, the oldest is forgotten', () => {
  const loops = new CrashLoops()
  for (let index = 0; index < 1_001; index++) loops.onStartFailed(`v${index}`, 'x', index)
  expect(loops.size).toBe(1_000)
  expect(loops.check('v0', 0).type).toBe('any')
  expect(loops.check('v1', 1).type).toBe('none')
})
