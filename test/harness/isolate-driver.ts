/** Drivers on temporary directories, versions out of source text, and a way to ask an instance something. */
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { LogLine } from '../../sdk/model/log-line.ts'
import type { ModuleKind } from '../../sdk/model/bundle.ts'
import type { VersionLimits, WorkerVersion } from '../../sdk/model/function.ts'
import { createIsolateDriver, type IsolateDriverOptions } from '../../runtime/isolate/driver.ts'
import type { EgressPort } from '../../runtime/isolate/home.ts'
import type { InstanceDriver } from '../../runtime/pool/driver.ts'
import type { Freezer } from '../../runtime/pool/wire.ts'

const bodies = new Map<string, Uint8Array>()

export interface VersionSource {
  readonly name?: string
  readonly main: string
  readonly modules?: readonly { readonly name: string; readonly kind: ModuleKind; readonly text: string }[]
  readonly limits?: Partial<VersionLimits>
  readonly compatibilityFlags?: readonly string[]
}

export function versionOf(source: VersionSource): WorkerVersion {
  const modules = [
    { name: 'index.js', kind: 'esm' as ModuleKind, text: source.main },
    ...(source.modules ?? []),
  ].map(({ name, kind, text }) => {
    const body = Buffer.from(text)
    const sha256 = createHash('sha256').update(body).digest('hex')
    bodies.set(sha256, body)
    return { name, kind, sha256, sizeBytes: body.length }
  })
  const functionName = source.name ?? 'tested'
  const content = {
    kind: 'worker' as const,
    mainModule: 'index.js',
    modules,
    bindings: [],
    compatibilityDate: '2026-10-01',
    compatibilityFlags: source.compatibilityFlags ?? [],
    limits: source.limits ?? {},
  }
  const id = createHash('sha256')
    .update(functionName)
    .update(JSON.stringify(content))
    .digest('hex')
    .slice(0, 32)
  return { id, functionName, content, createdAt: '2026-11-21T00:00:00.000Z', message: '' }
}

export async function loadTestModules(): Promise<ReadonlyMap<string, Uint8Array>> {
  return bodies
}

/** Listens nowhere: instances that reach out find no socket. Remembers what it was told. */
export function silentEgress(): EgressPort & { readonly calls: string[] } {
  const calls: string[] = []
  return {
    calls,
    async listen({ id }) {
      calls.push(`listen ${id}`)
    },
    assign: (id, functionName) => void calls.push(`assign ${id} ${functionName}`),
    close: (id) => void calls.push(`close ${id}`),
  }
}

export interface TestDriver {
  readonly driver: InstanceDriver
  readonly lines: LogLine[]
  readonly egress: ReturnType<typeof silentEgress>
  readonly runDirectory: string
  readonly isolationName: string
  /** The first line, past or to come, that is right. */
  line(isRight: (line: LogLine) => boolean): Promise<LogLine>
  end(): Promise<void>
}

export async function testDriver(options: Partial<IsolateDriverOptions> = {}): Promise<TestDriver> {
  const runDirectory = options.runDirectory ?? mkdtempSync(join(tmpdir(), 'iso-'))
  const isolationName = options.isolationName ?? `test-${process.pid}-${runDirectory.slice(-6)}`
  const lines: LogLine[] = []
  const awaited = new Set<() => void>()
  const egress = silentEgress()
  const driver = await createIsolateDriver({
    runDirectory,
    isolationName,
    egress,
    loadModules: loadTestModules,
    log(line) {
      lines.push(line)
      for (const look of awaited) look()
    },
    ...options,
  })
  return {
    driver,
    lines,
    egress,
    runDirectory,
    isolationName,
    line: (isRight) =>
      new Promise((resolve) => {
        const look = (): void => {
          const found = lines.find(isRight)
          if (found === undefined) return
          awaited.delete(look)
          resolve(found)
        }
        awaited.add(look)
        look()
      }),
    async end() {
      await driver.close()
      rmSync(runDirectory, { recursive: true, force: true })
    },
  }
}

/** Writes what the router writes, and waits until nothing of it runs any more. */
export async function freeze(freezer: Freezer | undefined): Promise<void> {
  if (freezer === undefined) throw new Error('this machine has no freezer')
  writeFileSync(freezer.file, freezer.frozen)
  while (!isFrozen(freezer)) await new Promise((resolve) => setTimeout(resolve, 1))
}

export const isFrozen = (freezer: Freezer): boolean =>
  freezer.file.endsWith('cgroup.freeze')
    ? readFileSync(join(dirname(freezer.file), 'cgroup.events'), 'utf8').includes('frozen 1')
    : readFileSync(freezer.file, 'utf8').trim() === freezer.frozen

export function thaw(freezer: Freezer): void {
  writeFileSync(freezer.file, freezer.thawed)
}

/** A file of an instance's or blank's cgroup, under the name that this machine's version has for it. */
export function cgroupText(
  { runDirectory }: Pick<TestDriver, 'runDirectory'>,
  id: string,
  names: {
    readonly v1: readonly [controller: string, file: string]
    readonly v2: string
    readonly parent?: boolean
  },
): string {
  const { cgroup } = JSON.parse(readFileSync(join(runDirectory, 'i', id, 'instance.json'), 'utf8')) as {
    cgroup: Record<string, string>
  }
  const [directory, file] = cgroup['unified']
    ? [cgroup['unified'], names.v2]
    : [cgroup[names.v1[0]]!, names.v1[1]]
  return readFileSync(join(names.parent ? dirname(directory) : directory, file), 'utf8').trim()
}

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly text: string
}

/** One request on a connection of its own. Rejects where the connection breaks. */
export function ask(socketPath: string, path = '/', headers: Record<string, string> = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(
      { socketPath, path, headers: { host: 'test.example', ...headers }, agent: false },
      (answer) => {
        let text = ''
        answer.setEncoding('utf8')
        answer.on('data', (chunk: string) => (text += chunk))
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text }))
        answer.on('error', reject)
      },
    )
    asked.on('error', reject)
    asked.end()
  })
}
