/**
 * A process that works on an embedded bucket and can be made to die, by SIGKILL and at an exact step of it:
 *
 *   deploy <directory> <code> [<phase> <n>]   deploys function "shop", prints "done"
 *   collect <directory> <code> [<phase> <n>]  removes garbage of any age, prints "done"
 *   write <directory> <first>                 writes documents and blobs for ever, prints the number of each
 *
 * Phases: `before` or `after` the n-th operation on the bucket, or `fsync`, in place of the n-th fsync of a file.
 */
import { createHash } from 'node:crypto'
import fileSystem from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { deploy } from '../../runtime/control/deploy.ts'
import type { ControlPorts } from '../../runtime/control/ports.ts'
import type { Bucket } from '../../runtime/registry/bucket.ts'
import { openEmbeddedBucket } from '../../runtime/registry/embedded-bucket.ts'
import { openRegistry } from '../../runtime/registry/registry-store.ts'
import type { Module } from '../../sdk/model/bundle.ts'

/** Two modules: one that becomes a row and one that becomes a file. */
export function modulesOf(code: string): readonly Module[] {
  return [
    { name: 'index.js', kind: 'esm', body: Buffer.from(code) },
    { name: 'large.bin', kind: 'data', body: Buffer.from(code.repeat(100_000)) },
  ]
}

export async function deployModules(bucket: Bucket, code: string): Promise<string> {
  const registry = await openRegistry({
    bucket,
    now: Date.now,
    newId: () => `${process.pid}-${Math.random().toString(36).slice(2)}`,
  })
  const modules = []
  for (const { name, kind, body } of modulesOf(code)) {
    const sha256 = createHash('sha256').update(body).digest('hex')
    if (!(await registry.hasBlob(sha256))) await registry.putBlob(sha256, body)
    modules.push({ name, kind, sha256, sizeBytes: body.byteLength })
  }
  const ports: ControlPorts = {
    registry,
    baseDomain: 'localhost',
    httpPort: () => 80,
    trialStart: async () => ({ trialMs: 1 }),
    whenLive: async () => undefined,
    status: () => {
      throw new Error('not asked for')
    },
    usage: async () => ({ hours: [], lagS: 0 }),
    metrics: async () => ({ contentType: 'text/plain', text: '' }),
    logs: { read: async () => [], follow: () => () => undefined },
  }
  const result = await deploy(ports, 'shop', {
    kind: 'worker',
    mainModule: 'index.js',
    modules,
    bindings: [],
    compatibilityDate: '2026-11-01',
    compatibilityFlags: [],
    routes: [{ pattern: `${code}.example/*` }],
    baseDomainHost: true,
    previewHosts: true,
  })
  return result.deployment.shares[0]?.versionId ?? ''
}

function die(): never {
  process.kill(process.pid, 'SIGKILL')
  // The signal is delivered before the next instruction of this thread that matters; never go on.
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
}

function mortal(bucket: Bucket, phase: 'before' | 'after', n: number): Bucket {
  let count = 0
  const step = async <T>(operation: () => Promise<T>): Promise<T> => {
    const isLast = ++count === n
    if (isLast && phase === 'before') die()
    const result = await operation()
    if (isLast) die()
    return result
  }
  return {
    get: (key) => step(() => bucket.get(key)),
    head: (key) => step(() => bucket.head(key)),
    putIfAbsent: (key, body) => step(() => bucket.putIfAbsent(key, body)),
    putIfMatch: (key, body, etag) => step(() => bucket.putIfMatch(key, body, etag)),
    delete: (key) => step(() => bucket.delete(key)),
    list: (prefix) => bucket.list(prefix),
    close: () => bucket.close(),
  }
}

function dieAtFsync(n: number): void {
  const open = fileSystem.open.bind(fileSystem)
  let count = 0
  fileSystem.open = async (...parameters) => {
    const handle = await open(...parameters)
    const sync = handle.sync.bind(handle)
    handle.sync = () => (++count === n ? die() : sync())
    return handle
  }
  syncBuiltinESMExports()
}

async function writeForever(bucket: Bucket, first: number): Promise<never> {
  for (let number = first; ; number++) {
    const body = Buffer.alloc(number % 3 === 0 ? 200_000 : 200, number % 251)
    await bucket.putIfAbsent(`blobs/${number}`, body)
    const counter = await bucket.get('counter')
    const next = Buffer.from(String(number))
    if (counter === undefined) await bucket.putIfAbsent('counter', next)
    else await bucket.putIfMatch('counter', next, counter.etag)
    process.stdout.write(`${number}\n`)
  }
}

async function main([command, directory = '', argument = '', phase, n]: readonly string[]): Promise<void> {
  const embedded = openEmbeddedBucket({ directory })
  if (command === 'write') await writeForever(embedded, Number(argument))
  if (phase === 'fsync') dieAtFsync(Number(n))
  const bucket = phase === 'before' || phase === 'after' ? mortal(embedded, phase, Number(n)) : embedded
  if (command === 'deploy') await deployModules(bucket, argument)
  if (command === 'collect') {
    const registry = await openRegistry({ bucket, now: Date.now, newId: () => 'unused' })
    await registry.collect({ graceMs: -60_000 })
  }
  bucket.close()
  process.stdout.write('done\n')
}

if (import.meta.main) await main(process.argv.slice(2))
