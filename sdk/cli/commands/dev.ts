import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import type { Miniflare, MiniflareOptions } from 'miniflare'
import { IsolaError, isIsolaError } from '../../model/errors.ts'
import { workerdBinaryPath } from '../../../runtime/machine/workerd-binary.ts'
import { bindError, parseAddress } from '../address.ts'
import { buildFunction, SOURCE_FLAGS } from '../build-function.ts'
import type { Command, CommandContext } from '../command.ts'
import type { Output } from '../output.ts'
import { devWorkers, isFrameOfIsola, stackMapperOf, withoutLogMarks } from '../dev-options.ts'
import { usageError } from '../parse-arguments.ts'
import { watchFiles } from '../watch-files.ts'

const PORT_DEFAULT = 8787

export const devCommand: Command = {
  name: 'dev',
  summary: 'run a function here, reloaded on every change',
  usage: '[DIR | FILE]',
  words: [0, 1],
  flags: {
    port: {
      type: 'text',
      short: 'p',
      value: 'PORT',
      help: `port on 127.0.0.1 (default ${PORT_DEFAULT}; 0: any free one)`,
    },
    ...SOURCE_FLAGS,
  },
  notes: [
    'The same configuration, bundler and runtime as on a node, without a node. A change that does not build is shown,',
    'and the last good version goes on answering. Needs the package miniflare.',
  ].join('\n'),
  examples: ['isola dev', 'isola dev examples/hello --port 3000'],
  endsOnStop: true,
  run: dev,
}

async function dev(context: CommandContext): Promise<undefined> {
  const { output } = context
  const requestedPort = await freePort(context)
  const { Miniflare, Log, LogLevel } = await loadMiniflare()
  let inSources = (line: string): string => line
  const read = async (port: number): Promise<Build> => {
    const readFromMs = Date.now()
    const built = await buildFunction(context)
    for (const warning of built.warnings) output.warn(warning)
    const workers = devWorkers(built)
    inSources = stackMapperOf(built)
    // `cf: false`: the default asks a server on the internet for what request.cf would be.
    const log = new Log(LogLevel.NONE)
    const handleRuntimeStdio = passOn(output, (line) => inSources(line))
    const options = { host: '127.0.0.1', port, cf: false, log, handleRuntimeStdio, workers }
    return { options: options as MiniflareOptions, watchedFiles: built.watchedFiles, readFromMs }
  }
  const first = await read(requestedPort)
  const server = withoutItsSignals(() => new Miniflare(first.options))
  try {
    const url = await started(server.ready)
    output.document({ event: 'ready', url: url.href })
    output.line(`${url.href} (Ctrl-C ends it)`)
    const port = Number(url.port)
    const kept = { ...first, options: { ...first.options, port } }
    await reloading({ context, server, first: kept, read: () => read(port) })
  } finally {
    // One that did not start says so again here, and has been heard.
    await server.dispose().catch(() => undefined)
  }
  return undefined
}

interface Build {
  readonly options: MiniflareOptions
  readonly watchedFiles: readonly string[]
  readonly readFromMs: number
}

interface Reloading {
  readonly context: CommandContext
  readonly server: Miniflare
  readonly first: Build
  readonly read: () => Promise<Build>
}

/** Until Ctrl-C. One reload at a time; a change during one is followed by another. */
async function reloading({ context, server, first, read }: Reloading): Promise<void> {
  const { output, stop } = context
  let isChanged = false
  let wake = (): void => {}
  const watcher = watchFiles(() => {
    isChanged = true
    wake()
  })
  stop.addEventListener('abort', () => wake(), { once: true })
  watcher.setFiles(first.watchedFiles, first.readFromMs)
  let good = first.options
  while (!stop.aborted) {
    if (!isChanged) await new Promise<void>((resolve) => (wake = resolve))
    if (stop.aborted) break
    isChanged = false
    const startedAtMs = performance.now()
    try {
      const next = await read()
      watcher.setFiles(next.watchedFiles, next.readFromMs)
      await replace(server, next.options, good)
      good = next.options
      const reloadMs = Math.round(performance.now() - startedAtMs)
      output.document({ event: 'reloaded', reloadMs })
      output.line(`reloaded in ${reloadMs} ms`)
    } catch (error) {
      watcher.watchWholeDirectories()
      const code = isIsolaError(error) ? error.code : 'start_failed'
      const message = error instanceof Error ? error.message : String(error)
      output.document({ event: 'error', error: { code, message } })
      output.progress(`error: ${message}\nthe last version that built goes on answering`)
    }
  }
  watcher.close()
}

async function freePort(context: CommandContext): Promise<number> {
  const text = context.flags.text('port') ?? String(PORT_DEFAULT)
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535) {
    throw usageError(`--port is ${JSON.stringify(text)}: give a number from 0 to 65535`)
  }
  const address = parseAddress(`127.0.0.1:${text}`, 'port')
  const code = await bindError(address)
  if (code === undefined) return address.port
  throw new IsolaError(
    'address_in_use',
    `cannot listen on 127.0.0.1:${text} (${code}): give another port with --port`,
  )
}

async function loadMiniflare(): Promise<typeof import('miniflare')> {
  // The instances' own workerd, so that both answer alike; miniflare has no other way to name one.
  process.env.MINIFLARE_WORKERD_PATH = workerdBinaryPath()
  try {
    return await import('miniflare')
  } catch (error) {
    throw new IsolaError(
      'unsupported_machine',
      `isola dev needs the package miniflare (${(error as Error).message.split('\n')[0]}): run "npm install --save-dev miniflare"`,
      { cause: error },
    )
  }
}

/** miniflare ends the process when a signal comes, before anything here could end well. */
function withoutItsSignals<T>(make: () => T): T {
  const signals = ['SIGINT', 'SIGTERM'] as const
  const before = signals.map((signal) => process.listeners(signal))
  const made = make()
  for (const [index, signal] of signals.entries()) {
    for (const listener of process.listeners(signal)) {
      if (before[index]?.includes(listener) !== true) process.removeListener(signal, listener)
    }
  }
  return made
}

/** miniflare ends what runs before it starts the next: if that does not start, the last good one is started again. */
async function replace(server: Miniflare, next: MiniflareOptions, good: MiniflareOptions): Promise<void> {
  try {
    await started(server.setOptions(next))
  } catch (error) {
    await started(server.setOptions(good))
    throw error
  }
}

async function started<T>(starting: Promise<T>): Promise<T> {
  try {
    return await starting
  } catch (error) {
    const message = (error as Error).message
      .replace(/^[\s\S]*Runtime stderr:\n/, '')
      .replaceAll(/^service \S+: /gm, '')
    throw new IsolaError('start_failed', `the function does not start: ${message.trim()}`, { cause: error })
  }
}

/** What the function writes goes to stderr under --json too: stdout is for events. */
function passOn(
  output: Output,
  inSources: (line: string) => string,
): (stdout: Readable, stderr: Readable) => void {
  return (stdout, stderr) => {
    for (const stream of [stdout, stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        if (!isFrameOfIsola(line)) output.progress(inSources(withoutLogMarks(line)))
      })
    }
  }
}
