/** A runtime client as a process of this machine, with a function's files, beside a scripted Runtime API. */
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'
import { startRuntimeApi, type Claim, type RuntimeApi } from './runtime-api.ts'

const GUEST = fileURLToPath(new URL('../../runtime/container/guest', import.meta.url))

/** A blank is not told what it will be; AWS's environment comes with the claim. */
const AWS_ENVIRONMENT = {
  AWS_LAMBDA_FUNCTION_NAME: 'shop',
  AWS_LAMBDA_FUNCTION_VERSION: '$LATEST',
  AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '256',
  AWS_LAMBDA_LOG_GROUP_NAME: '/aws/lambda/shop',
  AWS_LAMBDA_LOG_STREAM_NAME: '2026/11/01/[$LATEST]0123',
} as const

export interface GuestOptions {
  /** `aws`: AWS's own client for Node.js, at the path that `client` says. */
  readonly runtime: 'node' | 'python' | 'aws'
  readonly client?: string
  readonly files: Readonly<Record<string, string>>
  readonly handler: string
  readonly environment?: Readonly<Record<string, string>>
  /** Known since the start, as in a container that was made for its function. @default false: claimed */
  readonly isKnown?: boolean
  /** Gets its function as soon as it asks, else by `claim`. @default true */
  readonly isClaimed?: boolean
}

export interface GuestProcess {
  readonly pid: number
  /** All it wrote so far, a line each. */
  readonly lines: readonly string[]
  /** Resolves with the first line that matches. */
  line(pattern: RegExp): Promise<string>
  readonly exited: Promise<number | NodeJS.Signals>
  kill(signal: NodeJS.Signals): void
}

export interface Guest extends GuestProcess {
  readonly api: RuntimeApi
  claim(): void
}

/** Ends with the test. */
export async function startGuest(options: GuestOptions): Promise<Guest> {
  const { runtime, handler, environment = {}, isClaimed = true } = options
  // AWS's knows nothing of blanks.
  const isKnown = runtime === 'aws' || options.isKnown === true
  const directory = mkdtempSync(join(tmpdir(), 'isola-guest-api-'))
  const api = await startRuntimeApi(runtime === 'aws' ? undefined : join(directory, 'api.sock'))
  onTestFinished(async () => {
    await api.stop().catch(() => undefined)
    rmSync(directory, { recursive: true, force: true })
  })
  const { taskRoot, ...guest } = spawnGuest({ ...options, isKnown, address: api.address })
  const claim: Claim = { handler, environment: { ...AWS_ENVIRONMENT, ...environment }, taskRoot }
  if (!isKnown && isClaimed) api.claim(claim)
  return { api, ...guest, claim: () => api.claim(claim) }
}

/** A client that asks whoever listens at `address`. Ends with the test. */
export function spawnGuest(
  options: GuestOptions & { readonly address: string },
): GuestProcess & { readonly taskRoot: string } {
  const { runtime, files, handler, environment, address } = options
  const taskRoot = mkdtempSync(join(tmpdir(), 'isola-guest-task-'))
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(taskRoot, name)), { recursive: true })
    writeFileSync(join(taskRoot, name), text)
  }
  const [command, script] = {
    node: [process.execPath, join(GUEST, 'node/client.js')] as const,
    python: ['/usr/bin/python3', join(GUEST, 'python/client.py')] as const,
    aws: [process.execPath, options.client ?? ''] as const,
  }[runtime]
  const known = { ...AWS_ENVIRONMENT, ...environment, _HANDLER: handler, LAMBDA_TASK_ROOT: taskRoot }
  const child = spawn(command, [script, address], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env.PATH,
      ...(options.isKnown === true && known),
      ...(runtime === 'aws' && { AWS_LAMBDA_RUNTIME_API: address }),
    },
  })
  const lines: string[] = []
  const watchers = new Set<(line: string) => void>()
  for (const stream of [child.stdout, child.stderr]) {
    let rest = ''
    // Not by readline, for which a carriage return ends a line.
    stream.setEncoding('utf8').on('data', (text: string) => {
      const pieces = (rest + text).split('\n')
      rest = pieces.pop() ?? ''
      for (const line of pieces) {
        lines.push(line)
        for (const watch of watchers) watch(line)
      }
    })
  }
  const exited = new Promise<number | NodeJS.Signals>((resolve) =>
    child.on('close', (code, signal) => resolve(signal ?? code ?? -1)),
  )
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await exited
    rmSync(taskRoot, { recursive: true, force: true })
  })
  return {
    taskRoot,
    pid: child.pid!,
    lines,
    exited,
    kill: (signal) => child.kill(signal),
    line: (pattern) =>
      new Promise((resolve) => {
        const watch = (line: string): void => {
          if (pattern.test(line)) resolve(line)
        }
        watchers.add(watch)
        lines.forEach(watch)
      }),
  }
}
