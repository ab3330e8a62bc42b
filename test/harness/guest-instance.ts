/** One workerd with the guest, unsandboxed, in a directory of its own: what the driver starts, without the driver. */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { onTestFinished } from 'vitest'
import { encodeConfig, INSTANCE_SOCKETS, type ConfigOptions } from '../../runtime/isolate/config.ts'
import { createOutputParser } from '../../runtime/isolate/output.ts'
import { createStackMapper } from '../../runtime/isolate/stack-map.ts'
import { blankArguments } from '../../runtime/isolate/workerd.ts'
import { workerdBinaryPath } from '../../runtime/machine/workerd-binary.ts'
import type { ModuleKind } from '../../sdk/model/bundle.ts'
import type { Binding, WorkerContent, WorkerVersion } from '../../sdk/model/function.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'

export interface GuestSource {
  /** Body by name; the kind is told by `kinds`, else by the ending (`.js` is esm). */
  readonly modules: Readonly<Record<string, string | Uint8Array>>
  readonly kinds?: Readonly<Record<string, ModuleKind>>
  readonly mainModule?: string
  readonly bindings?: readonly Binding[]
  readonly compatibilityDate?: string
  readonly compatibilityFlags?: readonly string[]
  readonly memoryMib?: number
  readonly format?: WorkerContent['format']
  readonly tag?: string
  /** @default secrets are text that was turned round */
  readonly openSecret?: ConfigOptions['openSecret']
}

export interface GuestAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
  /** Whether the connection broke before the body's end. */
  readonly aborted: boolean
}

export interface GuestInstance {
  readonly pid: number
  readonly directory: string
  readonly socketPath: string
  readonly lines: readonly LogLine[]
  get(path: string, headers?: Readonly<Record<string, string>>): Promise<GuestAnswer>
  control(): Promise<{ handlers: string[]; pending: number }>
  /** The first line that fits, now or when it comes. */
  line(fits: (line: LogLine) => boolean): Promise<LogLine>
  /** Listens where the function's outgoing requests arrive. */
  listenEgress(onConnection: Parameters<typeof createServer>[1] & object): Promise<Server>
}

export interface GuestStart {
  /** Undefined where workerd ended before it listened. */
  readonly instance: GuestInstance | undefined
  readonly lastErrors: string
  readonly exitCode: number | undefined
}

const DATE = '2026-11-01'

export function guestVersion(source: GuestSource): {
  version: WorkerVersion
  modules: Map<string, Uint8Array>
} {
  const modules = new Map<string, Uint8Array>()
  const refs = Object.entries(source.modules).map(([name, body]) => {
    const bytes = typeof body === 'string' ? Buffer.from(body) : body
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    modules.set(sha256, bytes)
    return { name, kind: source.kinds?.[name] ?? kindOf(name), sha256, sizeBytes: bytes.length }
  })
  const version: WorkerVersion = {
    id: '0123456789abcdef0123456789abcdef',
    functionName: 'shop',
    createdAt: '2026-11-01T00:00:00.000Z',
    message: '',
    ...(source.tag !== undefined && { tag: source.tag }),
    content: {
      kind: 'worker',
      ...(source.format !== undefined && { format: source.format }),
      mainModule: source.mainModule ?? 'index.js',
      modules: refs,
      bindings: source.bindings ?? [],
      compatibilityDate: source.compatibilityDate ?? DATE,
      compatibilityFlags: source.compatibilityFlags ?? [],
      limits: { cpuMs: 10_000, memoryMib: source.memoryMib ?? 128 },
    },
  }
  return { version, modules }
}

function kindOf(name: string): ModuleKind {
  return name.endsWith('.js.map') ? 'sourcemap' : 'esm'
}

/** Starts it and calls `use`; leaves nothing behind, whatever happens. */
export async function withGuest<T>(source: GuestSource, use: (start: GuestStart) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'isola-guest-'))
  const { version, modules } = guestVersion(source)
  const child = spawn(workerdBinaryPath(), blankArguments({ controlFd: 3 }), {
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
  })
  const [stdin, stdout, stderr, control] = child.stdio as unknown as [
    NodeJS.WritableStream,
    Readable,
    Readable,
    Readable,
  ]
  const servers: Server[] = []
  const lines: LogLine[] = []
  const waiting = new Set<(line: LogLine) => void>()
  const sourceMaps = new Map(
    version.content.modules
      .filter(({ kind }) => kind === 'sourcemap')
      .map(({ name, sha256 }) => [name, modules.get(sha256)!]),
  )
  const parser = createOutputParser({
    functionName: version.functionName,
    versionId: version.id,
    instanceId: 'instance-1',
    mapStack: createStackMapper(sourceMaps),
    onLine(line) {
      lines.push(line)
      for (const wake of waiting) wake(line)
    },
  })
  stdout.on('data', (chunk: Buffer) => parser.push(chunk, 'stdout'))
  stderr.on('data', (chunk: Buffer) => parser.push(chunk, 'stderr'))
  const closed = once(child, 'close') as Promise<[number | null]>
  // A test that hangs never comes to the end of this.
  onTestFinished(() => {
    child.kill('SIGKILL')
    rmSync(directory, { recursive: true, force: true })
  })
  try {
    stdin.on('error', () => undefined)
    const openSecret = source.openSecret ?? (({ sealed }) => sealed.split('').reverse().join(''))
    stdin.end(encodeConfig({ version, modules, socketDirectory: directory, openSecret }))
    const listening = await Promise.race([bothListen(control), closed.then(() => false)])
    if (!listening) {
      const [code] = await closed
      return await use({ instance: undefined, lastErrors: parser.lastErrors(), exitCode: code ?? undefined })
    }
    const socketPath = join(directory, INSTANCE_SOCKETS.http)
    const instance: GuestInstance = {
      pid: child.pid!,
      directory,
      socketPath,
      lines,
      get: (path, headers = {}) => get(socketPath, path, headers),
      control: async () => {
        const answer = await get(join(directory, INSTANCE_SOCKETS.control), '/', {})
        return JSON.parse(answer.body) as { handlers: string[]; pending: number }
      },
      line: (fits) =>
        new Promise((resolve) => {
          const known = lines.find(fits)
          if (known !== undefined) return resolve(known)
          const wake = (line: LogLine): void => {
            if (!fits(line)) return
            waiting.delete(wake)
            resolve(line)
          }
          waiting.add(wake)
          return undefined
        }),
      async listenEgress(onConnection) {
        const server = createServer(onConnection)
        servers.push(server)
        server.listen(join(directory, INSTANCE_SOCKETS.egress))
        await once(server, 'listening')
        return server
      },
    }
    return await use({ instance, lastErrors: '', exitCode: undefined })
  } finally {
    child.kill('SIGKILL')
    await closed
    for (const server of servers) server.close()
    rmSync(directory, { recursive: true, force: true })
  }
}

/** As `withGuest`, of a source that starts. */
export function withRunningGuest<T>(
  source: GuestSource | string,
  use: (instance: GuestInstance) => Promise<T>,
): Promise<T> {
  const whole = typeof source === 'string' ? { modules: { 'index.js': source } } : source
  return withGuest(whole, async ({ instance, lastErrors }) => {
    if (instance === undefined) throw new Error(`workerd did not start: ${lastErrors}`)
    return use(instance)
  })
}

function bothListen(control: Readable): Promise<boolean> {
  return new Promise((resolve) => {
    let text = ''
    control.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      if (text.split('\n').length > 2) resolve(true)
    })
    control.on('end', () => resolve(false))
  })
}

function get(
  socketPath: string,
  path: string,
  headers: Readonly<Record<string, string>>,
): Promise<GuestAnswer> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { socketPath, path, headers: { host: 'shop.example', ...headers } },
      (response) => {
        let body = ''
        response.on('data', (chunk: Buffer) => (body += chunk.toString()))
        response.on('error', () => undefined)
        response.on('close', () =>
          resolve({
            status: response.statusCode!,
            headers: response.headers,
            body,
            aborted: !response.complete,
          }),
        )
      },
    )
    outgoing.on('error', reject)
    outgoing.end()
  })
}
