import { describe, expect, test } from 'vitest'
import { DEFAULT_POLICY, parsePolicy } from '../../sdk/model/policy.ts'
import { decide, INITIAL_SCALING_STATE, type PoolObservation } from '../../runtime/pool/scaling.ts'

const policy = parsePolicy({ concurrency: 50 })
const rest: PoolObservation = {
  running: 0,
  starting: 0,
  inFlight: 0,
  queued: 0,
  stable: 0,
  panic: 0,
  cpuShare: 0,
  percent: 100,
  scheduledMin: 0,
  predictedMin: 0,
  restMs: 0,
  idleMs: 60_000,
  node: { coresMax: 16, memoryMax: 50, cpuFull: false },
}
/** A load that has been so for a while, without a queue. */
function load(count: number, running: number): PoolObservation {
  return { ...rest, running, inFlight: count, stable: count, panic: count }
}
function once(seen: PoolObservation, of = policy): ReturnType<typeof decide> {
  return decide(of, seen, INITIAL_SCALING_STATE, 0)
}

describe('how many there should be', () => {
  test('nothing is wanted without demand, and the minimum where there is one', () => {
    expect(once({ ...rest, restMs: Infinity })).toMatchObject({ desired: 0, reason: 'no demand' })
    const min = parsePolicy({ min: 2 })
    expect(once({ ...rest, restMs: Infinity }, min)).toMatchObject({ desired: 2, reason: 'min 2' })
  })

  test('the mean over 60 s is divided by 70 % of the concurrency', () => {
    expect(once(load(35, 1)).desired).toBe(1)
    const decision = once(load(36.4, 1))
    expect(decision.desired).toBe(2)
    expect(decision.reason).toBe('36.4 requests on average over 60 s at a target of 35.0 per instance')
  })

  test('a concurrency whose 70 % is no exact number in binary gives no instance too many', () => {
    expect(once(load(49, 1), parsePolicy({ concurrency: 70 })).desired).toBe(1)
    expect(once(load(0.7, 1), parsePolicy({ concurrency: 1 })).desired).toBe(1)
    expect(once(load(0.8, 1), parsePolicy({ concurrency: 1 })).desired).toBe(2)
  })

  test('the first request that waits wants an instance at once, and a crowd as many as it needs', () => {
    expect(once({ ...rest, queued: 1 }).desired).toBe(1)
    const crowd = once({ ...rest, running: 1, inFlight: 50, queued: 60 })
    expect(crowd.desired).toBe(4)
    expect(crowd.reason).toBe('60 waiting and 50 in flight at a target of 35.0 per instance')
  })

  test('requests in flight that have a slot do not hurry: the windows are soon enough', () => {
    expect(once({ ...load(30, 1), inFlight: 45 }).desired).toBe(1)
  })

  test('instances out of CPU get company, by what they use together', () => {
    const decision = once({ ...load(5, 1), cpuShare: 0.97 })
    expect(decision.desired).toBe(2)
    expect(decision.reason).toBe('instances use 0.97 cores at a target of 0.85 each')
    // The same work on two: the answer is the same, so it does not swing.
    expect(once({ ...load(5, 2), cpuShare: 0.97 }).desired).toBe(2)
    expect(once({ ...load(5, 1), cpuShare: 0.8 }).desired).toBe(1)
  })

  test('CPU without requests (background work) asks for nothing, and neither does a node without a free core', () => {
    expect(once({ ...rest, running: 3, cpuShare: 2.4 }).desired).toBe(1)
    const full = once({ ...load(5, 1), cpuShare: 0.97, node: { ...rest.node, cpuFull: true } })
    expect(full.desired).toBe(1)
  })
})

describe('bounds', () => {
  test('a concurrency that no policy can have is taken for one', () => {
    for (const concurrency of [0, -5, Number.NaN]) {
      for (const seen of [rest, load(0.5, 1), { ...load(2, 3), queued: 1 }, { ...rest, queued: 2 }]) {
        const damaged = once(seen, { ...policy, concurrency })
        expect(damaged.desired).toBe(once(seen, { ...policy, concurrency: 1 }).desired)
        expect(damaged.reason).not.toMatch(/NaN|Infinity/)
      }
    }
  })

  test('max of the policy holds, with the reason that wanted more', () => {
    const decision = once({ ...rest, queued: 1_000, running: 3 }, parsePolicy({ max: 3 }))
    expect(decision.desired).toBe(3)
    expect(decision.reason).toMatch(/^1000 waiting .*; held at max 3$/)
  })

  test('max 0 means the cores of the node, and the memory of the node is above every max', () => {
    const seen = { ...load(2_000, 16), node: { coresMax: 2, memoryMax: 50, cpuFull: false } }
    expect(once(seen)).toMatchObject({
      desired: 2,
      reason: expect.stringMatching(/held at max 2 by the node's cores$/),
    })
    const small = { ...seen, node: { coresMax: 16, memoryMax: 3, cpuFull: false } }
    expect(once(small, parsePolicy({ max: 8 }))).toMatchObject({
      desired: 3,
      reason: expect.stringMatching(/held at max 3 by the node's memory$/),
    })
    const min = once(
      { ...small, inFlight: 0, stable: 0, panic: 0, restMs: Infinity },
      parsePolicy({ min: 5 }),
    )
    expect(min).toMatchObject({ desired: 3, reason: "min 5; held at max 3 by the node's memory" })
  })

  test('a version with a tenth of the traffic keeps its tenth of the minimum, never less than one', () => {
    const seen = { ...rest, percent: 10, restMs: Infinity }
    expect(once(seen, parsePolicy({ min: 10 }))).toMatchObject({
      desired: 1,
      reason: 'min 1 (10 % of the traffic)',
    })
    expect(once({ ...seen, percent: 1 }, parsePolicy({ min: 1 })).desired).toBe(1)
    expect(once({ ...seen, percent: 0 }, parsePolicy({ min: 1 })).desired).toBe(0)
  })

  test('the greater of minimum and schedule holds', () => {
    const seen = { ...rest, restMs: Infinity, scheduledMin: 2 }
    expect(once(seen)).toMatchObject({ desired: 2, reason: 'min 2 by schedule' })
    expect(once(seen, parsePolicy({ min: 3 }))).toMatchObject({ desired: 3, reason: 'min 3' })
  })

  test('an instance that is expected to be needed counts as a minimum of one', () => {
    const decision = once({ ...rest, restMs: 900_000, predictedMin: 1 })
    expect(decision.desired).toBe(1)
    expect(decision.reason).toContain('history')
  })

  test('one step asks for at most four times the running, so a fault in the numbers cannot fill the node', () => {
    const wide = parsePolicy({ concurrency: 1, max: 1_000 })
    expect(once({ ...rest, queued: 40 }, wide)).toMatchObject({
      desired: 4,
      reason: expect.stringMatching(/not more than 4 in this step$/),
    })
    expect(once({ ...rest, queued: 40, running: 4, inFlight: 4 }, wide).desired).toBe(16)
    // A minimum is no guess: it is not stepped.
    expect(once({ ...rest, queued: 40 }, parsePolicy({ concurrency: 1, max: 0, min: 12 })).desired).toBe(12)
  })
})

describe('panic', () => {
  const burst = { ...load(30, 1), panic: 80, inFlight: 50 }

  test('below 200 % of what the instances are for the short window says nothing', () => {
    const decision = once({ ...burst, panic: 69 })
    expect(decision).toMatchObject({ desired: 1, panicking: false })
  })

  test('from 200 % on it decides, with its values', () => {
    const decision = once(burst)
    expect(decision).toMatchObject({ desired: 3, panicking: true })
    expect(decision.reason).toBe('panic: 80.0 over 6 s is 229 % of what 1 instance is for')
  })

  test('it never scales down, and ends a stable window after the load was last above 200 %', () => {
    let { state } = once(burst)
    const calm = load(10, 3)
    for (const nowMs of [1_000, 30_000, 59_900]) {
      const decision = decide(policy, calm, state, nowMs)
      expect(decision).toMatchObject({ desired: 3, wanted: 3, panicking: true })
      expect(decision.reason).toContain('panic: held at 3')
      state = decision.state
    }
    expect(decide(policy, calm, state, 60_000)).toMatchObject({ wanted: 1, panicking: false })
  })
})

describe('scale-down', () => {
  test('what was wanted within the last 60 s is kept, and the reason says for how long', () => {
    const { state } = once(load(100, 3))
    const later = decide(policy, load(10, 3), state, 20_000)
    expect(later).toMatchObject({ desired: 3, wanted: 1 })
    expect(later.reason).toMatch(/^kept at 3: scale-down waits 40 s more \(1 now: 10\.0 requests on average/)
    expect(decide(policy, load(10, 3), later.state, 59_999).desired).toBe(3)
    expect(decide(policy, load(10, 3), later.state, 60_000).desired).toBe(1)
  })

  test('it comes down in steps, as each peak grows old', () => {
    let { state } = once(load(140, 4))
    state = decide(policy, load(60, 4), state, 30_000).state
    expect(decide(policy, load(10, 4), state, 59_000).desired).toBe(4)
    expect(decide(policy, load(10, 4), state, 61_000).desired).toBe(2)
    expect(decide(policy, load(10, 4), state, 91_000).desired).toBe(1)
  })

  test('the delay keeps instances and never starts one', () => {
    const { state } = once(load(140, 4))
    expect(decide(policy, load(10, 1), state, 1_000).desired).toBe(1)
  })

  test('without requests the memory of the windows keeps instances and starts none', () => {
    const seen = { ...rest, stable: 100, panic: 0, restMs: 5_000 }
    expect(once({ ...seen, running: 0 }).desired).toBe(0)
    expect(once({ ...seen, running: 2 }).desired).toBe(2)
  })

  test('the last one is kept by the minimum where there is one, and the reason says so', () => {
    const min = parsePolicy({ min: 1 })
    expect(once({ ...rest, running: 1, restMs: 1_000 }, min)).toMatchObject({ desired: 1, reason: 'min 1' })
  })

  test('the last one is kept until it was idle long enough, then nothing is kept', () => {
    const kept = once({ ...rest, running: 1, restMs: 20_000 })
    expect(kept).toMatchObject({ desired: 1, reason: 'no demand: kept for 40 s more (idle after 60 s)' })
    const { state } = once(load(140, 4))
    const over = decide(policy, { ...rest, running: 4, stable: 9, restMs: 60_000 }, state, 60_000)
    expect(over).toMatchObject({ desired: 0, wanted: 0, reason: 'no demand for 60 s (idle after 60 s)' })
  })

  test('what a decision remembers stays small however the load swings', () => {
    let state = INITIAL_SCALING_STATE
    for (let nowMs = 0; nowMs < 600_000; nowMs += 100) {
      const swinging = load(280 + 270 * Math.sin(nowMs / 7_000), 8)
      ;({ state } = decide(policy, swinging, state, nowMs))
      expect(state.peaks.length).toBeLessThanOrEqual(17)
    }
  })
})

test('a load that swings around a step keeps the instance it has started, and starts none for it', () => {
  expect(once(load(35, 1)).desired).toBe(1)
  expect(once(load(35.4, 1)).desired).toBe(2)
  const settled = once(load(27, 2))
  expect(settled.wanted).toBe(2)
  expect(settled.reason).toBe('27.0 requests on average over 60 s are hardly less than 1 at 35.0 is for')
  // By a quarter of an instance, however many there are.
  expect(once(load(26, 2)).wanted).toBe(1)
  expect(once(load(341, 11)).wanted).toBe(10)
  expect(once(load(342, 11)).wanted).toBe(11)
})

test('a steady load has one answer, at every load and whatever the present count', () => {
  for (const count of [1, 20, 36, 60, 71, 200, 340]) {
    const answers = [1, 2, 5, 10].map(
      (running) => once(load(count, running), { ...DEFAULT_POLICY, max: 10 }).wanted,
    )
    const [first] = answers.slice(-1)
    // With few the step is bounded, and panic may already count; never more than with many.
    for (const answer of answers) expect(answer).toBeLessThanOrEqual(first!)
    expect(answers.slice(2)).toEqual([first, first])
  }
})
