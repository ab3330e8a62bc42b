import { createInterface } from 'node:readline/promises'
import { runCommandLine } from './run.ts'
import { watchStopSignals } from './stop-signals.ts'

// Under an older Node, bin.js runs this as a child with a channel: when the launcher is killed, so is what it launched.
if (process.channel) process.on('disconnect', () => process.exit(137))

// A reader that went away (`isola logs fn -f | head`) ends a command, but not a node: that only loses its words.
const readerGone = new AbortController()
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', () => readerGone.abort())
}

const signals = watchStopSignals({ endsWithParent: process.env.npm_lifecycle_event !== undefined })

async function ask(question: string): Promise<string> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  try {
    return await terminal.question(question, { signal: signals.stop })
  } finally {
    terminal.close()
  }
}

/** A pipe takes 64 KiB and then as much as its reader: what it has not taken when a process exits is lost. */
async function outputTaken(): Promise<void> {
  const taken = [process.stdout, process.stderr].map(
    (stream) => new Promise<void>((resolve) => stream.write('', () => resolve())),
  )
  const givenUp = AbortSignal.any([readerGone.signal, signals.stop])
  if (givenUp.aborted) return
  const gone = new Promise<void>((resolve) =>
    givenUp.addEventListener('abort', () => resolve(), { once: true }),
  )
  await Promise.race([Promise.all(taken), gone])
}

const exitCode = await runCommandLine({
  argv: process.argv.slice(2),
  environment: process.env,
  workingDirectory: process.cwd(),
  streams: { stdout: process.stdout, stderr: process.stderr },
  input: process.stdin,
  ...signals,
  readerGone: readerGone.signal,
  ...(process.stdin.isTTY && process.stderr.isTTY ? { ask } : {}),
})
await outputTaken()
process.exit(exitCode)
