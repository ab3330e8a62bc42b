import { expect, test } from 'vitest'
import { DEFAULT_POLICY, parsePolicy } from '../../sdk/model/policy.ts'
import { decideInstances, type PoolObservation } from '../../runtime/pool/scaling.ts'

const machine = { instancesMax: 4 }
const rest: PoolObservation = { running: 0, starting: 0, inFlight: 0, queued: 0, cpuShare: 0, percent: 100 }

test('a version without demand wants no instance, and its minimum where it has one', () => {
  expect(decideInstances(DEFAULT_POLICY, rest, machine).desired).toBe(0)
  const decision = decideInstances(parsePolicy({ min: 2 }), rest, machine)
  expect(decision).toEqual({ desired: 2, reason: 'min 2' })
})

test('the first queued request wants one instance', () => {
  expect(decideInstances(DEFAULT_POLICY, { ...rest, queued: 1 }, machine).desired).toBe(1)
})

test('requests beyond the target of each instance want more, up to max', () => {
  const policy = parsePolicy({ concurrency: 10, max: 3 })
  // 70 % of 10 slots: 7 a piece.
  expect(decideInstances(policy, { ...rest, running: 1, inFlight: 7 }, machine).desired).toBe(1)
  expect(decideInstances(policy, { ...rest, running: 1, inFlight: 8 }, machine).desired).toBe(2)
  const full = decideInstances(policy, { ...rest, running: 1, inFlight: 10, queued: 90 }, machine)
  expect(full.desired).toBe(3)
  expect(full.reason).toContain('max 3')
})

test('max 0 means as many as the machine holds', () => {
  expect(decideInstances(DEFAULT_POLICY, { ...rest, queued: 1_000 }, machine).desired).toBe(4)
})

test('an instance that is out of CPU gets company, one at a time', () => {
  const busy = { ...rest, running: 1, inFlight: 5, cpuShare: 0.95 }
  expect(decideInstances(DEFAULT_POLICY, busy, machine).desired).toBe(2)
  expect(decideInstances(DEFAULT_POLICY, { ...busy, starting: 1 }, machine).desired).toBeLessThan(2)
})

test('a version with a tenth of the traffic keeps its tenth of the minimum, never less than one', () => {
  expect(
    decideInstances(parsePolicy({ min: 10 }), { ...rest, percent: 10 }, { instancesMax: 20 }).desired,
  ).toBe(1)
  expect(decideInstances(parsePolicy({ min: 1 }), { ...rest, percent: 1 }, machine).desired).toBe(1)
})
