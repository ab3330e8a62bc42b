import { describe, expect, test } from 'vitest'
import { environmentEnd, reportExit } from '../../runtime/container/exit-report.ts'

const LIMITS = { memoryMib: 128, cpuMs: 10_000 }
const report = (facts: Partial<Parameters<typeof reportExit>[0]>) =>
  reportExit({
    end: { exitCode: 0, outOfMemory: false },
    requested: undefined,
    errors: '',
    limits: LIMITS,
    ...facts,
  })

describe('why a container ended', () => {
  test('an exit code, with the last lines of stderr', () => {
    expect(report({ end: { exitCode: 3, outOfMemory: false }, errors: 'one\ntwo' })).toEqual({
      cause: 'crashed',
      message: 'exit code 3',
      detail: 'one\ntwo',
    })
  })

  test('a signal, by its name', () => {
    expect(report({ end: { exitCode: 139, outOfMemory: false } })).toEqual({
      cause: 'crashed',
      message: 'ended by SIGSEGV (exit code 139)',
    })
  })

  test('out of memory only where the main process was killed for it', () => {
    const killed = { exitCode: 137, outOfMemory: true }
    expect(report({ end: killed })).toEqual({
      cause: 'out_of_memory',
      message: 'memory limit of 128 MiB reached',
    })
    expect(report({ end: { ...killed, exitCode: 0 } }).cause).toBe('crashed')
    expect(report({ end: { ...killed, outOfMemory: false } })).toEqual({
      cause: 'crashed',
      message: 'ended by SIGKILL (exit code 137)',
    })
  })

  test("the node's memory, where that was used up and its own was not", () => {
    expect(report({ end: { exitCode: 137, outOfMemory: true }, budgetReachedMib: 512 })).toEqual({
      cause: 'node_out_of_memory',
      message:
        "the node's memory budget of 512 MiB for all containers was used up; this instance was below its own limit of 128 MiB",
    })
  })

  test("V8's full heap, which ends the process before the kernel would", () => {
    const errors = 'FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory'
    expect(report({ end: { exitCode: 134, outOfMemory: false }, errors })).toEqual({
      cause: 'out_of_memory',
      message: 'JavaScript heap out of memory (memory limit of 128 MiB)',
    })
    // A function that only says so, and goes.
    expect(report({ end: { exitCode: 1, outOfMemory: false }, errors }).cause).toBe('crashed')
  })

  test('what was asked for comes first, in the words given with it', () => {
    const end = { exitCode: 137, outOfMemory: true }
    expect(report({ end, requested: 'stopped' })).toEqual({ cause: 'stopped', message: 'stopped' })
    expect(report({ end, requested: 'killed', requestedMessage: 'timed out' })).toEqual({
      cause: 'killed',
      message: 'timed out',
    })
    expect(report({ end, requested: 'cpu_limit' }).message).toBe(
      'CPU limit of 10000 ms reached without an answer',
    )
  })

  test('nobody knows, where nobody was there', () => {
    expect(report({ end: { outOfMemory: false } }).message).toBe('ended while nobody was there to see how')
  })
})

test('the Lambda process is told an exit status, a signal, or memory', () => {
  expect(environmentEnd({ exitCode: 3, outOfMemory: true }, '')).toEqual({ exitCode: 3, outOfMemory: false })
  expect(environmentEnd({ exitCode: 137, outOfMemory: false }, '')).toEqual({
    signal: 'SIGKILL',
    outOfMemory: false,
  })
  expect(environmentEnd({ exitCode: 137, outOfMemory: true }, '')).toEqual({
    signal: 'SIGKILL',
    outOfMemory: true,
  })
  expect(environmentEnd({ outOfMemory: false }, '')).toEqual({ outOfMemory: false })
})
