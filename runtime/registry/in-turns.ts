import { REGISTRY_LIMITS } from '../../sdk/model/limits.ts'

/** Results in order, at most `requestsConcurrentMax` at a time: the bucket may be far away. */
export async function inTurns<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  for (let start = 0; start < items.length; start += REGISTRY_LIMITS.requestsConcurrentMax) {
    const turn = items.slice(start, start + REGISTRY_LIMITS.requestsConcurrentMax)
    results.push(...(await Promise.all(turn.map(work))))
  }
  return results
}
