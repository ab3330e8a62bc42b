/** Why a container ended, decided from everything known about it, for isola and in AWS's terms. */
import { constants } from 'node:os'
import type { ExitCause } from '../../sdk/model/node-status.ts'
import type { EnvironmentEnd } from '../lambda/wire.ts'
import type { ExitReport, StartOptions } from '../pool/driver.ts'
import type { ContainerEnd } from './container-ends.ts'

export interface ContainerExitFacts {
  readonly end: ContainerEnd
  /** The cause given to `kill`, or `stopped` after `stop`, and the words given with it. */
  readonly requested: ExitCause | undefined
  readonly requestedMessage?: string | undefined
  /** Last lines on stderr. */
  readonly errors: string
  /** In force for this instance. */
  readonly limits: StartOptions
  /** Where the limit of all containers together was reached, and not its own, MiB. */
  readonly budgetReachedMib?: number | undefined
}

/** A shell, an init and the engine itself all say so of a process that was ended by a signal. */
const SIGNAL_CODE_BASE = 128
const KILLED = SIGNAL_CODE_BASE + constants.signals.SIGKILL
const HEAP_EXHAUSTED = /JavaScript heap out of memory/
const LINES_MAX = 5

/** What we did comes first: a container that we ended for one cause may show signs of another. */
export function reportExit(facts: ContainerExitFacts): ExitReport {
  const { end, requested, errors, limits } = facts
  if (requested !== undefined) {
    return { cause: requested, message: facts.requestedMessage ?? requestedMessage(requested, limits) }
  }
  if (isMemoryEnd(end)) {
    const { budgetReachedMib } = facts
    if (budgetReachedMib === undefined) return { cause: 'out_of_memory', message: memoryMessage(limits) }
    return {
      cause: 'node_out_of_memory',
      message: `the node's memory budget of ${budgetReachedMib} MiB for all containers was used up; this instance was below its own limit of ${limits.memoryMib} MiB`,
    }
  }
  if (isHeapEnd(end, errors)) {
    return {
      cause: 'out_of_memory',
      message: `JavaScript heap out of memory (memory limit of ${limits.memoryMib} MiB)`,
    }
  }
  const detail = lastLines(errors)
  return { cause: 'crashed', message: describeEnd(end, ''), ...(detail !== '' && { detail }) }
}

/** As the Lambda process tells the callers. */
export function environmentEnd(end: ContainerEnd, errors: string): EnvironmentEnd {
  const outOfMemory = isMemoryEnd(end) || isHeapEnd(end, errors)
  const { exitCode } = end
  if (exitCode === undefined) return { outOfMemory }
  const signal = signalOf(exitCode)
  return signal === undefined ? { exitCode, outOfMemory } : { signal, outOfMemory }
}

/** "exit code 3: …last lines of stderr…" */
export function describeEnd({ exitCode }: ContainerEnd, errors: string): string {
  const signal = exitCode === undefined ? undefined : signalOf(exitCode)
  const how =
    exitCode === undefined
      ? 'ended while nobody was there to see how'
      : signal === undefined
        ? `exit code ${exitCode}`
        : `ended by ${signal} (exit code ${exitCode})`
  const lines = lastLines(errors)
  return lines === '' ? how : `${how}: ${lines}`
}

function lastLines(errors: string): string {
  return errors.trim().split('\n').slice(-LINES_MAX).join('\n')
}

/** A killed child alone is no reason: the function may have survived it. */
function isMemoryEnd({ exitCode, outOfMemory }: ContainerEnd): boolean {
  return outOfMemory && exitCode === KILLED
}

/** V8 ends the process itself where its heap is full, before the kernel would. */
function isHeapEnd({ exitCode }: ContainerEnd, errors: string): boolean {
  return exitCode !== undefined && exitCode > SIGNAL_CODE_BASE && HEAP_EXHAUSTED.test(errors)
}

function signalOf(exitCode: number): string | undefined {
  const number = exitCode - SIGNAL_CODE_BASE
  return Object.entries(constants.signals).find(([, value]) => value === number)?.[0]
}

function memoryMessage({ memoryMib }: StartOptions): string {
  return `memory limit of ${memoryMib} MiB reached`
}

function requestedMessage(cause: ExitCause, limits: StartOptions): string {
  switch (cause) {
    case 'stopped':
      return 'stopped'
    case 'cpu_limit':
      return `CPU limit of ${limits.cpuMs} ms reached without an answer`
    case 'out_of_memory':
      return memoryMessage(limits)
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
