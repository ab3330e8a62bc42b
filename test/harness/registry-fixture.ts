/** A registry on a memory bucket, with a clock that tests move, and the smallest deploy that is one. */
import { createHash } from 'node:crypto'
import type { Bucket } from '../../runtime/registry/bucket.ts'
import { openRegistry } from '../../runtime/registry/registry-store.ts'
import type { Registry } from '../../runtime/registry/registry.ts'
import { versionId } from '../../runtime/registry/version-id.ts'
import type { FunctionRecord, Head, WorkerVersion, WorkerContent } from '../../sdk/model/function.ts'
import { openMemoryBucket, type MemoryStore } from './memory-bucket.ts'

export const sha256 = (body: Uint8Array): string => createHash('sha256').update(body).digest('hex')
export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

export interface RegistryPlace {
  readonly store: MemoryStore
  readonly bucket: Bucket
  nowMs: number
  readonly open: (bucket?: Bucket) => Promise<Registry>
}

export function createRegistryPlace(): RegistryPlace {
  const store: MemoryStore = new Map()
  let ids = 0
  const place: RegistryPlace = {
    store,
    bucket: openMemoryBucket({ store, now: () => place.nowMs }),
    nowMs: Date.UTC(2026, 10, 21),
    open: (bucket = place.bucket) =>
      openRegistry({ bucket, now: () => place.nowMs, newId: () => `id-${++ids}` }),
  }
  return place
}

export function contentOf(code: string): WorkerContent {
  const body = bytes(code)
  return {
    kind: 'worker',
    mainModule: 'index.js',
    modules: [{ name: 'index.js', kind: 'esm', sha256: sha256(body), sizeBytes: body.byteLength }],
    bindings: [],
    compatibilityDate: '2026-11-01',
    compatibilityFlags: [],
    limits: {},
  }
}

export async function storeVersion(
  registry: Registry,
  functionName: string,
  code: string,
  nowMs = 0,
): Promise<WorkerVersion> {
  await registry.putBlob(sha256(bytes(code)), bytes(code))
  const content = contentOf(code)
  const version: WorkerVersion = {
    id: versionId(functionName, content),
    functionName,
    content,
    createdAt: new Date(nowMs).toISOString(),
    message: code,
  }
  await registry.putVersion(version)
  return version
}

let deployments = 0

export function recordOf(
  name: string,
  versionIds: readonly string[],
  previous?: FunctionRecord,
): FunctionRecord {
  return {
    name,
    kind: 'worker',
    deployment: {
      id: `deployment-${++deployments}`,
      shares: versionIds.map((versionId) => ({ versionId, percent: 100 / versionIds.length })),
      createdAt: '2026-11-21T00:00:00.000Z',
      message: '',
      ...(previous && { previousId: previous.deployment.id }),
    },
    recentVersionIds: [],
    routes: [],
    baseDomainHost: true,
    previewHosts: true,
    policy: {},
  }
}

export async function deployVersion(registry: Registry, name: string, code: string): Promise<WorkerVersion> {
  const version = await storeVersion(registry, name, code)
  await registry.swap((head) => ({
    ...head.functions,
    [name]: recordOf(name, [version.id], head.functions[name]),
  }))
  return version
}

/** The functions of a head without one of them. */
export function without(head: Head, functionName: string): Head['functions'] {
  return Object.fromEntries(Object.entries(head.functions).filter(([name]) => name !== functionName))
}
