import { expect, test } from 'vitest'
import { reportExit, type ExitFacts } from '../../runtime/isolate/exit-report.ts'

const QUIET: ExitFacts = {
  exit: { code: 1, signal: undefined },
  requested: undefined,
  memoryKill: undefined,
  errors: '',
  limits: { cpuMs: 500, memoryMib: 64 },
}

const cases: readonly [string, Partial<ExitFacts>, string, string][] = [
  ['an exit code', {}, 'crashed', 'exit code 1'],
  ['an exit code with a last line', { errors: 'warning\nthe end\n' }, 'crashed', 'exit code 1: the end'],
  ['a signal', { exit: { code: undefined, signal: 'SIGSEGV' } }, 'crashed', 'ended by SIGSEGV'],
  [
    'an end nobody saw',
    { exit: { code: undefined, signal: undefined } },
    'crashed',
    'ended while no agent was there to see how',
  ],
  [
    'a kill by the kernel',
    { exit: { code: undefined, signal: 'SIGKILL' }, memoryKill: { reached: 'instance' } },
    'out_of_memory',
    'memory limit of 64 MiB reached',
  ],
  [
    'a kill by the kernel for the memory of all instances together',
    { exit: { code: undefined, signal: 'SIGKILL' }, memoryKill: { reached: 'budget', memoryMib: 900 } },
    'node_out_of_memory',
    "the node's memory budget of 900 MiB for all instances was used up; this instance was below its own limit of 64 MiB",
  ],
  [
    "a kill by the kernel for the machine's memory",
    { exit: { code: undefined, signal: 'SIGKILL' }, memoryKill: { reached: 'machine' } },
    'node_out_of_memory',
    "the machine's memory was used up; this instance was below its own limit of 64 MiB",
  ],
  [
    "V8's own end",
    { errors: 'Fatal: JavaScript heap out of memory' },
    'out_of_memory',
    'JavaScript heap out of memory (memory limit of 64 MiB)',
  ],
  [
    'no files left',
    { errors: 'overloaded: accept(): Too many open files (os error 24)' },
    'crashed',
    'limit of 8192 open files and connections reached',
  ],
  [
    'a function that ended itself',
    {
      errors:
        '*** Fatal uncaught kj::Exception: bridge.rs:929: failed: abortIsolate() called, terminating process; reason = enough',
    },
    'crashed',
    'abortIsolate() was called: enough',
  ],
  [
    'a request to stop, whatever else is seen',
    { requested: 'stopped', memoryKill: { reached: 'instance' } },
    'stopped',
    'stopped',
  ],
  [
    'a kill for CPU',
    { requested: 'cpu_limit' },
    'cpu_limit',
    'CPU limit of 500 ms reached without an answer',
  ],
  [
    'a kill with words of its own',
    { requested: 'cpu_limit', requestedMessage: 'CPU limit of 20 ms reached' },
    'cpu_limit',
    'CPU limit of 20 ms reached',
  ],
  ['a kill for memory', { requested: 'out_of_memory' }, 'out_of_memory', 'memory limit of 64 MiB reached'],
]
for (const [title, facts, cause, message] of cases) {
  test(`${title} is reported as ${cause}`, () => {
    expect(reportExit({ ...QUIET, ...facts })).toEqual({ cause, message })
  })
}
