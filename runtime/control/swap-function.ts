import type { FunctionRecord, Head } from '../../sdk/model/function.ts'
import type { ControlPorts } from './ports.ts'

/**
 * Replaces one function's record in one swap of the head. The record returned is the one this change made: swaps that
 * arrive together are written together, and the head may already hold what a later one made of it. A change that returns
 * the record it found writes nothing.
 */
export async function swapFunction(
  ports: ControlPorts,
  change: (head: Head) => FunctionRecord,
): Promise<{ readonly head: Head; readonly record: FunctionRecord }> {
  let made: FunctionRecord | undefined
  const head = await ports.registry.swap((head) => {
    made = change(head)
    if (made === head.functions[made.name]) return head.functions
    return { ...head.functions, [made.name]: made }
  })
  if (made === undefined) throw new Error('a swap resolved without asking for its change')
  return { head, record: made }
}
