/** Why an instance ended, decided from everything known about it. */
import type { ExitCause } from '../../sdk/model/node-status.ts'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import type { ExitReport, StartOptions } from '../pool/driver.ts'
import type { MemoryKill } from '../machine/cgroup.ts'
import type { ProcessExit } from '../machine/process-handle.ts'

export interface ExitFacts {
  readonly exit: ProcessExit
  /** The cause given to `kill`, or `stopped` after `stop`, and the words given with it. */
  readonly requested: ExitCause | undefined
  readonly requestedMessage?: string | undefined
  /** Of its cgroup, since it was made. */
  readonly memoryKill: MemoryKill | undefined
  /** Last lines that workerd itself wrote to stderr. */
  readonly errors: string
  /** In force for this instance. */
  readonly limits: StartOptions
}

const HEAP_EXHAUSTED = /out of memory|heap limit/i
const ABORTED = /abortIsolate\(\) called.*reason = (.*)/
/** workerd ends when it cannot accept a connection. */
const FILES_EXHAUSTED = /accept\(\).*too many open files/i

/** What we did comes first: a process that we killed for one cause may show signs of another. */
export function reportExit(facts: ExitFacts): ExitReport {
  const { exit, requested, memoryKill, errors, limits } = facts
  if (requested !== undefined)
    return { cause: requested, message: facts.requestedMessage ?? requestedMessage(requested, limits) }
  const lastError = errors.trim().split('\n').at(-1) ?? ''
  if (memoryKill !== undefined) {
    const cause = memoryKill.reached === 'instance' ? 'out_of_memory' : 'node_out_of_memory'
    return { cause, message: memoryMessage(memoryKill, limits) }
  }
  if (HEAP_EXHAUSTED.test(errors)) {
    return {
      cause: 'out_of_memory',
      message: `JavaScript heap out of memory (memory limit of ${limits.memoryMib} MiB)`,
    }
  }
  if (FILES_EXHAUSTED.test(lastError)) {
    return {
      cause: 'crashed',
      message: `limit of ${INSTANCE_LIMITS.openFilesMax} open files and connections reached`,
    }
  }
  const aborted = ABORTED.exec(errors)
  if (aborted !== null) return { cause: 'crashed', message: `abortIsolate() was called: ${aborted[1]}` }
  const how =
    exit.signal !== undefined
      ? `ended by ${exit.signal}`
      : exit.code !== undefined
        ? `exit code ${exit.code}`
        : 'ended while no agent was there to see how'
  return { cause: 'crashed', message: lastError === '' ? how : `${how}: ${lastError}` }
}

function memoryMessage(kill: MemoryKill, { memoryMib }: StartOptions): string {
  const below = `this instance was below its own limit of ${memoryMib} MiB`
  switch (kill.reached) {
    case 'instance':
      return `memory limit of ${memoryMib} MiB reached`
    case 'budget':
      return `the node's memory budget of ${kill.memoryMib} MiB for all instances was used up; ${below}`
    case 'machine':
      return `the machine's memory was used up; ${below}`
  }
}

function requestedMessage(cause: ExitCause, limits: StartOptions): string {
  switch (cause) {
    case 'stopped':
      return 'stopped'
    case 'cpu_limit':
      return `CPU limit of ${limits.cpuMs} ms reached without an answer`
    case 'out_of_memory':
      return `memory limit of ${limits.memoryMib} MiB reached`
    case 'node_out_of_memory':
      return "the node's memory was used up"
    case 'start_failed':
      return 'it did not start'
    case 'crashed':
      return 'ended because it no longer answered'
    case 'killed':
      return 'killed'
  }
}
