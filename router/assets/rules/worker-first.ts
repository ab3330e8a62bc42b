/**
 * `run_worker_first` as a list: paths that go to the code before any file is looked for, and behind `!` those that never
 * do. `*` stands for anything, as often as it likes; matched by hand, since a regular expression with many of them could
 * keep the router busy for as long as a stranger wants.
 */
import { ASSET_LIMITS } from '../../../sdk/model/limits.ts'

export interface WorkerFirst {
  /** `undefined`: no rule speaks of it. */
  find(path: string): 'code' | 'files' | undefined
}

export function compileWorkerFirst(rules: readonly string[]): WorkerFirst {
  const kept = rules.slice(0, ASSET_LIMITS.runWorkerFirstRulesMax)
  const code = kept.filter((rule) => !rule.startsWith('!')).map((rule) => rule.split('*'))
  const files = kept.filter((rule) => rule.startsWith('!')).map((rule) => rule.slice(1).split('*'))
  return {
    find(path) {
      if (files.some((literals) => fits(path, literals))) return 'files'
      return code.some((literals) => fits(path, literals)) ? 'code' : undefined
    },
  }
}

/** Each literal at its first place: if a later one would do, so does that. */
function fits(path: string, literals: readonly string[]): boolean {
  const first = literals[0]!
  if (literals.length === 1) return path === first
  const last = literals.at(-1)!
  const end = path.length - last.length
  if (!path.startsWith(first) || !path.endsWith(last)) return false
  let from = first.length
  for (let index = 1; index < literals.length - 1; index++) {
    const at = path.indexOf(literals[index]!, from)
    if (at === -1) return false
    from = at + literals[index]!.length
  }
  return from <= end
}
