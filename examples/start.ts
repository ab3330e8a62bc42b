/**
 * `npm start`: a node, and every example deployed on it. What stands after `npm start --` goes to `isola up`.
 *
 * All of it is done as a user would, with the `isola` command: the node is a child process that says as JSON when it
 * is ready, and ends when this ends. This ends with npm: npm passes signals on to the shell between, which dies of them
 * and tells nobody.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const ISOLA = fileURLToPath(new URL('../sdk/cli/bin.js', import.meta.url))

interface Ready {
  readonly httpUrl: string
  readonly controlUrl: string
  readonly dataDirectory: string
  readonly baseDomain: string
  readonly sandbox: string
  readonly limits: string
}

/** In this order. `paths` are what the table at the end shows. */
const EXAMPLES: readonly {
  readonly name: string
  readonly paths: readonly string[]
  readonly about: string
}[] = [
  { name: 'hello', paths: ['/'], about: 'the smallest function' },
  { name: 'api', paths: ['/books', '/books/2'], about: 'a JSON API on Hono' },
  { name: 'site', paths: ['/'], about: 'a page, the origin of the next' },
  { name: 'edge', paths: [], about: 'middleware that rewrites the page of the site' },
  { name: 'stream', paths: ['/'], about: 'a line at a time' },
  { name: 'websocket', paths: ['/'], about: 'an echo, with a page to try it' },
  { name: 'wasm', paths: ['/?n=90'], about: 'Fibonacci in WebAssembly' },
]

const node = spawn(ISOLA, ['up', ...process.argv.slice(2), '--json'], {
  stdio: ['inherit', 'pipe', 'inherit'],
})
const ended = new Promise<number>((resolve) => {
  node.on('error', (error) => {
    console.error(`isola could not be started: ${error.message}`)
    resolve(3)
  })
  node.on('exit', (code, signal) => resolve(signal === null ? (code ?? 3) : 137))
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop(signal))

const parent = process.ppid
if (process.env.npm_lifecycle_event !== undefined) {
  const timer = setInterval(() => {
    if (process.ppid === parent) return
    clearInterval(timer)
    if (!isStopping) stop('SIGTERM')
  }, 250).unref()
}

let isStopping = false

// The node's end is the end of this, whatever else is still being tried.
const outcome = await Promise.race([ended, deployAll().catch(failed)])
process.exitCode = outcome ?? (await ended)
process.exit()

async function deployAll(): Promise<undefined> {
  const ready = await readiness(node)
  if (ready === undefined) return
  console.log(`node is up on ${ready.httpUrl}, control ${ready.controlUrl}, data ${ready.dataDirectory}`)
  console.log(`  sandbox: ${ready.sandbox}\n  limits:  ${ready.limits}\n`)
  for (const { name } of EXAMPLES) {
    const directory = fileURLToPath(new URL(name, import.meta.url))
    const { liveMs } = await isola(ready, 'deploy', directory)
    console.log(`deployed ${name.padEnd(9)} live in ${Math.round(Number(liveMs))} ms`)
  }
  const edgeHost = `www.${ready.baseDomain}`
  await isola(
    ready,
    'routes',
    'add',
    `${edgeHost}/*`,
    'edge',
    '--origin',
    urlOf(ready, `site.${ready.baseDomain}`),
  )
  console.log('')
  for (const { name, paths, about } of EXAMPLES) {
    const host = name === 'edge' ? edgeHost : `${name}.${ready.baseDomain}`
    for (const path of name === 'edge' ? ['/'] : paths) {
      console.log(`  ${`${urlOf(ready, host)}${path}`.padEnd(44)} ${about}`)
    }
  }
  console.log(
    '\nCtrl-C ends it. "npm run isola -- status" shows its processes, "npm run isola -- help" all commands.',
  )
}

/** The node's first line, if it gets that far. What it says later is passed on. */
function readiness(child: ChildProcess & { stdout: NodeJS.ReadableStream }): Promise<Ready | undefined> {
  return new Promise((resolve) => {
    const lines = createInterface({ input: child.stdout })
    lines.on('line', (line) => {
      if (!line.startsWith('{"event":')) {
        // The document of an error, whose text is on stderr already, is for programs.
        if (!line.startsWith('{"error":')) console.log(line)
        return
      }
      const event = JSON.parse(line) as { event: string; line?: string } & Ready
      if (event.event === 'ready') resolve(event)
      else if (event.line !== undefined) console.log(event.line)
    })
    lines.on('close', () => resolve(undefined))
  })
}

async function isola(ready: Ready, ...words: readonly string[]): Promise<Record<string, unknown>> {
  const { stdout } = await promisify(execFile)(ISOLA, [...words, '--data', ready.dataDirectory, '--json'])
  return JSON.parse(stdout) as Record<string, unknown>
}

function urlOf(ready: Ready, host: string): string {
  const { port } = new URL(ready.httpUrl)
  return `http://${host}${port === '' ? '' : `:${port}`}`
}

async function failed(error: unknown): Promise<number | undefined> {
  // A deploy that was cut off by Ctrl-C is no news.
  if (isStopping) return undefined
  const { stderr, message } = error as { stderr?: string; message: string }
  console.error(stderr?.trim() || message)
  stop('SIGTERM')
  await ended
  return 1
}

function stop(signal: NodeJS.Signals): void {
  isStopping = true
  node.kill(signal)
}
