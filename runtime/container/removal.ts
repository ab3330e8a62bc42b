/**
 * Containers that are to go. An engine that does not answer removes nothing: what is left then is removed when it
 * answers again, or by the next agent, which finds it by its label.
 */
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import { isIsolaError } from '../../sdk/model/errors.ts'
import type { Engine } from './engine.ts'

export interface Removal {
  /** Resolves when it is gone, or when nothing more can be done now. Never rejects. */
  remove(containerId: string): Promise<void>
  /** Those that were left over. */
  retry(): void
}

const PAUSE_MS = 100

export function createRemoval(engine: Engine): Removal {
  const left = new Set<string>()

  const remove = async (containerId: string): Promise<void> => {
    const deadline = performance.now() + INSTANCE_LIMITS.removeTimeoutMs
    for (;;) {
      try {
        await engine.removeContainer(containerId)
        left.delete(containerId)
        return
      } catch (error) {
        left.add(containerId)
        if (isIsolaError(error) && error.code === 'engine_unavailable') return
        // The engine is still taking it apart, or is removing it already.
        if (performance.now() > deadline) return
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
    }
  }
  return {
    remove,
    retry() {
      for (const containerId of left) void remove(containerId)
    },
  }
}
