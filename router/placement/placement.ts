/**
 * Which version of a function answers a request.
 *
 * Without a sticky key: a draw by percent. With one: weighted rendezvous hashing. Each version draws a number from key
 * and version id, and the weight stretches it; the best one wins. So the order of the shares does not matter, every
 * node decides alike, and when a version's share grows while no other's does, each key that had it keeps it (its
 * number only improves, the others' do not), with three or more versions too, where ranges on a line would not.
 */
import { IsolaError } from '../../sdk/model/errors.ts'
import type { FunctionEntry } from '../table/function-entry.ts'
import { hashText, mixHash } from './hash.ts'

export interface PlacementInput {
  /** In [0, 1). */
  readonly random: number
  readonly stickyKey: string | undefined
}

/** The id of the version to answer. Throws `no_deployment` for a function whose versions receive no traffic. */
export function chooseVersion(entry: FunctionEntry, input: PlacementInput): string {
  const { choices } = entry
  const first = choices[0]
  if (first === undefined) {
    throw new IsolaError(
      'no_deployment',
      `no version of function "${entry.name}" receives traffic: deploy one`,
    )
  }
  if (choices.length === 1) return first.versionId
  if (input.stickyKey !== undefined) return chooseSticky(choices, input.stickyKey)
  for (const choice of choices) {
    if (input.random < choice.cumulative) return choice.versionId
  }
  return first.versionId
}

const TWO_TO_32 = 0x1_0000_0000

function chooseSticky(choices: FunctionEntry['choices'], key: string): string {
  const keyHash = hashText(key)
  let best = ''
  let bestScore = Infinity
  for (const choice of choices) {
    const uniform = (mixHash(keyHash ^ choice.seed) + 0.5) / TWO_TO_32
    // Exponentially distributed with rate `percent`: the least of several falls to each in proportion to its rate.
    const score = -Math.log(uniform) / choice.percent
    if (score < bestScore || (score === bestScore && choice.versionId < best)) {
      best = choice.versionId
      bestScore = score
    }
  }
  return best
}
