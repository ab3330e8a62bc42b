import { withoutFunction } from './dispatch-namespaces.ts'
import { findFunction } from './find-function.ts'
import { untilLive } from './go-live.ts'
import type { ControlPorts } from './ports.ts'

/** Takes a function out of service with all its routes. Its versions are collected later. */
export async function deleteFunction(
  ports: ControlPorts,
  functionName: string,
): Promise<{ readonly generation: number }> {
  const head = await ports.registry.swapDispatch((head) => {
    findFunction(head, functionName)
    return withoutFunction(head, functionName)
  })
  await untilLive(ports, head)
  return { generation: head.generation }
}
