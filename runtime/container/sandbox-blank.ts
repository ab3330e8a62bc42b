/** A sandbox that waits for the container that will live in it. */
import { identifyProcess } from '../machine/process-handle.ts'
import type { Cgroup } from '../machine/cgroup.ts'
import type { BlankClass } from './blank-class.ts'
import type { Blank } from './blanks.ts'
import type { ContainerEnd } from './container-ends.ts'
import type { ContainerParts } from './parts.ts'
import type { Sandbox } from './sandbox.ts'

export interface SandboxBlank extends Blank {
  readonly type: 'sandbox'
  readonly sandbox: Sandbox
  readonly ended: Promise<ContainerEnd>
  readonly hasEnded: boolean
}

type SandboxClass = Extract<BlankClass, { type: 'sandbox' }>

/** Throws as `SandboxMaker.make` does. */
export async function makeSandboxBlank(
  parts: ContainerParts,
  { blankClass, urgent }: { readonly blankClass: SandboxClass; readonly urgent: boolean },
): Promise<SandboxBlank> {
  const { egress, port } = blankClass
  const id = parts.ids.next()
  const sandbox = await parts.gate.run({ urgent }, () => parts.sandboxes.make({ id, egress, port }))
  return holdSandbox(parts, sandbox)
}

/** Also one that an earlier agent made. */
export function holdSandbox({ tools }: ContainerParts, sandbox: Sandbox): SandboxBlank {
  const { containerId, pid } = sandbox
  const ended = tools.ends.watch(containerId)
  const identity = identifyProcess(pid)
  const cgroup: Cgroup | undefined = identity === undefined ? undefined : tools.cgroups.find(containerId, pid)
  if (identity !== undefined) tools.ends.started(containerId, identity)
  let hasEnded = identity === undefined
  const endedSeen = ended.then((end) => {
    hasEnded = true
    return end
  })
  return {
    type: 'sandbox',
    id: sandbox.id,
    pid,
    sandbox,
    ended: endedSeen,
    get hasEnded() {
      return hasEnded
    },
    usage() {
      const { cpuMs = 0, memoryBytes = 0 } = hasEnded ? {} : (cgroup?.usage() ?? {})
      return { cpuMs, memoryBytes }
    },
    async discard() {
      tools.ends.forget(containerId)
      await sandbox.remove()
    },
  }
}
