import { spawn } from 'node:child_process'
import { resolve } from 'node:path'
import { IsolaError } from '../sdk/model/errors.ts'
import { BUILD_LIMITS } from '../sdk/model/limits.ts'
import type { CustomBuild } from './build-options.ts'

/**
 * Runs the project's own build command to its end and throws `build_failed` with what it wrote if it fails. It runs
 * in a process group of its own, so that nothing it started outlives it.
 */
export async function runCustomBuild(build: CustomBuild, projectDirectory: string): Promise<void> {
  const cwd = resolve(projectDirectory, build.cwd ?? '.')
  if (`${build.command}${cwd}`.includes('\0')) {
    throw new IsolaError('build_failed', 'build.command or build.cwd holds a NUL character: remove it')
  }
  const timeoutMs = build.timeoutMs ?? BUILD_LIMITS.commandTimeoutMs
  const child = spawn('sh', ['-c', build.command], { cwd, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  const output = createTail(BUILD_LIMITS.commandOutputBytesMax)
  child.stdout.on('data', output.push)
  child.stderr.on('data', output.push)

  let timedOut = false
  const timer = setTimeout(() => {
    timedOut = true
    killGroup(child.pid)
  }, timeoutMs)
  const end = await new Promise<string | undefined>((done) => {
    child.once('error', (error) => done(`could not be started in ${cwd}: ${error.message}`))
    child.once('exit', (code, signal) => {
      killGroup(child.pid)
      const outcome =
        code === 0 ? undefined : code === null ? `was ended by ${signal}` : `ended with exit code ${code}`
      // A process that left the group can hold the pipes open for ever; what was written before is here already.
      const giveUp = setTimeout(() => done(outcome), 500)
      child.once('close', () => {
        clearTimeout(giveUp)
        done(outcome)
      })
    })
  })
  clearTimeout(timer)
  child.stdout.destroy()
  child.stderr.destroy()
  if (end === undefined && !timedOut) return

  const what = timedOut ? `did not end within ${timeoutMs} ms` : end
  const written = output.text().trimEnd()
  throw new IsolaError(
    'build_failed',
    `build.command ${JSON.stringify(build.command)} ${what}: correct it or remove "build.command"` +
      (written === '' ? '; it wrote nothing' : `. It wrote:\n\n${written}`),
    { details: { diagnostics: [], output: written } },
  )
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // The group is empty, which is the usual end.
  }
}

/** The last bytes of a stream: the end of a build's output is where its error is. */
function createTail(bytesMax: number): { push: (chunk: Buffer) => void; text: () => string } {
  let kept = Buffer.alloc(0)
  let cut = false
  return {
    push(chunk) {
      kept = Buffer.concat([kept, chunk])
      if (kept.length <= bytesMax) return
      kept = kept.subarray(kept.length - bytesMax)
      cut = true
    },
    text: () => (cut ? '…' : '') + kept.toString('utf8'),
  }
}
