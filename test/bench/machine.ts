import { execFileSync } from 'node:child_process'
import { cpus, loadavg, release, totalmem } from 'node:os'
import { workerdBinaryPath } from '../../runtime/machine/workerd-binary.ts'

/** What a reader must know of the machine to compare numbers. */
export function describeMachine(): string[] {
  const cores = cpus()
  const memoryGib = (totalmem() / 2 ** 30).toFixed(1)
  return [
    `machine: ${cores.length} × ${cores[0]?.model.trim() ?? 'unknown CPU'}, ${memoryGib} GiB, Linux ${release()}`,
    `node ${process.version}, ${execFileSync(workerdBinaryPath(), ['--version'], { encoding: 'utf8' }).trim()}`,
    `load average before the run: ${loadavg()[0]!.toFixed(2)} (others on the machine make absolute numbers worse; ratios hold better)`,
  ]
}
