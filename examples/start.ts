/**
 * `npm start`: a node, and every example deployed on it that this machine can run: those in containers need a container
 * engine, some of them more. Why one is left out is said. What stands after `npm start --` goes to `isola up`.
 *
 * All of it is done as a user would, with the `isola` command: the node is a child process that says as JSON when it
 * is ready, and ends when this ends. This ends with npm: npm passes signals on to the shell between, which dies of them
 * and tells nobody.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
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

interface Example {
  readonly name: string
  /** What the table at the end shows. */
  readonly paths: readonly string[]
  readonly about: string
}

interface ContainerExample extends Example {
  /** A file that must be there before. */
  readonly needs?: { readonly path: string; readonly wayOut: string }
  /** Another example that it calls. */
  readonly calls?: string
  /** Instead of URLs. */
  readonly command?: string
}

/** In this order. */
const EXAMPLES: readonly Example[] = [
  { name: 'hello', paths: ['/'], about: 'the smallest function' },
  { name: 'api', paths: ['/books', '/books/2'], about: 'a JSON API on Hono' },
  { name: 'site', paths: ['/'], about: 'a page, the origin of the next' },
  { name: 'edge', paths: [], about: 'middleware that rewrites the page of the site' },
  { name: 'stream', paths: ['/'], about: 'a line at a time' },
  { name: 'websocket', paths: ['/'], about: 'an echo, with a page to try it' },
  { name: 'wasm', paths: ['/?n=90'], about: 'Fibonacci in WebAssembly' },
]

/** In this order, after the others. */
const CONTAINER_EXAMPLES: readonly ContainerExample[] = [
  { name: 'report', paths: ['/'], about: 'a Python handler' },
  { name: 'server', paths: ['/', '/count?to=5'], about: 'a Dockerfile with an HTTP server' },
  { name: 'resize', paths: ['/?width=300'], about: 'pictures made smaller by sharp' },
  { name: 'gallery', paths: ['/'], about: 'an isolate that calls "resize"', calls: 'resize' },
  {
    name: 'aws-image',
    paths: ['/'],
    about: "an image with AWS's own runtime client",
    needs: {
      path: 'node_modules/aws-lambda-ric/rapid-client.node',
      wayOut: 'run "npm install" in examples/aws-image first, which compiles the client',
    },
  },
  {
    name: 'jobs',
    paths: [],
    about: 'a job that nobody waits for',
    command: `npm run isola -- invoke jobs --async --payload '{"pages": 40}'`,
  },
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
    const { liveMs } = await isola(ready, 'deploy', directoryOf(name))
    console.log(`deployed ${name.padEnd(9)} live in ${Math.round(Number(liveMs))} ms`)
  }
  const inContainers = await deployContainers(ready)
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
  for (const { name, paths, about } of [...EXAMPLES, ...inContainers]) {
    const host = name === 'edge' ? edgeHost : `${name}.${ready.baseDomain}`
    for (const path of name === 'edge' ? ['/'] : paths) {
      console.log(`  ${`${urlOf(ready, host)}${path}`.padEnd(44)} ${about}`)
    }
  }
  for (const { command, about } of inContainers) {
    if (command !== undefined) console.log(`  ${command}   ${about}`)
  }
  console.log(
    '\nCtrl-C ends it. "npm run isola -- status" shows its processes, "npm run isola -- help" all commands.',
  )
}

/** Those that could be deployed. */
async function deployContainers(ready: Ready): Promise<readonly ContainerExample[]> {
  const deployed: ContainerExample[] = []
  for (const example of CONTAINER_EXAMPLES) {
    const { name } = example
    const missing = whatIsMissing(example, deployed)
    if (missing !== undefined) {
      console.log(`left out ${name.padEnd(9)} ${missing}`)
      continue
    }
    try {
      const { liveMs } = await isola(ready, 'deploy', directoryOf(name))
      console.log(`deployed ${name.padEnd(9)} live in ${Math.round(Number(liveMs))} ms`)
      deployed.push(example)
    } catch (error) {
      if (isStopping) return deployed
      console.log(`left out ${name.padEnd(9)} ${messageOf(error)}`)
    }
  }
  return deployed
}

function whatIsMissing(
  { name, needs, calls }: ContainerExample,
  deployed: readonly Example[],
): string | undefined {
  if (calls !== undefined && !deployed.some((other) => other.name === calls)) {
    return `it calls "${calls}", which is not there`
  }
  return needs === undefined || existsSync(`${directoryOf(name)}/${needs.path}`) ? undefined : needs.wayOut
}

function directoryOf(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url))
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
  console.error(messageOf(error))
  stop('SIGTERM')
  await ended
  return 1
}

/** What the command said last: before it may stand what it did. */
function messageOf(error: unknown): string {
  const { stdout, stderr, message } = error as { stdout?: string; stderr?: string; message: string }
  try {
    return (JSON.parse(stdout ?? '') as { error: { message: string } }).error.message
  } catch {
    return stderr?.trim() || message
  }
}

function stop(signal: NodeJS.Signals): void {
  isStopping = true
  node.kill(signal)
}
