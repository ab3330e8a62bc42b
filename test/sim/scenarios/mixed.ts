import type { Random } from '../random.ts'
import type { Change, Scenario, SimulatedFunction } from '../scenario.ts'
import { randomArrivals, randomBehaviour, randomPolicy, RESERVE_MIB } from './pieces.ts'

/** A little of everything; `tight`: more is wanted than the node has room for. */
export function mixedScenario({
  seed,
  random,
  tight,
}: {
  readonly seed: number
  readonly random: Random
  readonly tight: boolean
}): Scenario {
  const durationMs = random.between(20_000, 60_000)
  const count = random.whole(2, tight ? 12 : 7)
  const totalPerS = random.logUniform(4, 60)
  const functions = Array.from({ length: count }, (_, index): SimulatedFunction => {
    const behaviour = randomBehaviour(random)
    const weight = random.between(0.2, 2)
    return {
      name: `f${index}`,
      policy: randomPolicy(random),
      memoryMib: random.pick([32, 64, 128]),
      reserveMib: random.chance(0.1) ? 32 : RESERVE_MIB,
      arrivals: randomArrivals(random, (totalPerS * weight) / count, durationMs),
      behaviour,
    }
  })
  const places = tight ? random.whole(2, Math.max(2, count)) : count * 12
  return {
    seed,
    family: tight ? 'tight' : 'mixed',
    durationMs,
    budget: { memoryMib: 32 + places * 16, cpus: random.pick([1, 2, 4, 8]) },
    startsAtOnceMax: random.pick([2, 4, 8]),
    fullPerStart: random.chance(0.1) ? 0.2 : 0,
    functions,
    changes: randomChanges(random, functions, durationMs),
  }
}

function randomChanges(
  random: Random,
  functions: readonly SimulatedFunction[],
  durationMs: number,
): Change[] {
  return Array.from({ length: random.pick([0, 0, 1, 2, 4]) }, (): Change => {
    const atMs = random.between(1_000, durationMs * 0.9)
    const functionName = random.pick(functions).name
    switch (random.whole(0, 9)) {
      case 0:
        return { type: 'agent-restart', atMs, downMs: random.between(50, 5_000) }
      case 1:
        return { type: 'router-restart', atMs, downMs: random.between(50, 2_000) }
      case 2:
        return { type: 'delete', atMs, functionName }
      case 3:
        return { type: 'prewarm', atMs, functionName, min: random.whole(0, 3) }
      case 4:
        return { type: 'memory', atMs, functionName, memoryMib: random.pick([32, 64, 128]) }
      case 5:
      case 6: {
        const percent = random.pick([1, 10, 50, 100, 100])
        return { type: 'deploy', atMs, functionName, percent, behaviour: randomBehaviour(random) }
      }
      default:
        return { type: 'policy', atMs, functionName, policy: randomPolicy(random) }
    }
  }).sort((a, b) => a.atMs - b.atMs)
}
