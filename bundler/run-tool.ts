import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { IsolaError } from '../sdk/model/errors.ts'
import { BUILD_LIMITS } from '../sdk/model/limits.ts'

export interface ToolRun {
  /** In words of the manifest: what is being done, e.g. `installing the packages of package.json`. */
  readonly purpose: string
  readonly command: string
  readonly args: readonly string[]
  readonly directory: string
  /** What to do where the tool is not there or fails. */
  readonly wayOut: string
  readonly onProgress?: (line: string) => void
  /** @default BUILD_LIMITS.commandTimeoutMs */
  readonly timeoutMs?: number
}

/**
 * Runs a package manager to its end, its lines as progress. Throws `build_failed` with what it wrote last. It stays in our
 * process group, so that Ctrl-C ends it too.
 */
export async function runTool(run: ToolRun): Promise<void> {
  const timeoutMs = run.timeoutMs ?? BUILD_LIMITS.commandTimeoutMs
  const child = spawn(run.command, [...run.args], {
    cwd: run.directory,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
  })
  const endWithUs = (): void => void child.kill('SIGKILL')
  process.once('exit', endWithUs)
  let written: string[] = []
  let writtenChars = 0
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      run.onProgress?.(line)
      written.push(line)
      writtenChars += line.length + 1
      while (writtenChars > BUILD_LIMITS.commandOutputBytesMax && written.length > 1) {
        writtenChars -= (written.shift()?.length ?? 0) + 1
      }
    })
  }
  const end = await new Promise<string | undefined>((done) => {
    child.once('error', (error: NodeJS.ErrnoException) => {
      done(error.code === 'ENOENT' ? 'is not installed here' : `could not be started (${error.message})`)
    })
    child.once('close', (code, signal) => {
      if (code === 0) done(undefined)
      else if (code !== null) done(`ended with exit code ${code}`)
      else done(child.killed ? `did not end within ${timeoutMs} ms` : `was ended by ${signal}`)
    })
  })
  process.removeListener('exit', endWithUs)
  if (end === undefined) return
  const output = written.join('\n').trim()
  throw new IsolaError(
    'build_failed',
    `${run.purpose} failed: ${run.command} ${end}. ${run.wayOut}` +
      (output === '' ? '' : `. It wrote:\n\n${output}`),
    { details: { diagnostics: [], output } },
  )
}
