/**
 * The Lambda API beside the control API on one real server, over a real registry on an embedded bucket. Faked is what
 * the rest of the node does: trial starts, invocations, images, the router's word, and logs.
 */
import { LambdaClient } from '@aws-sdk/client-lambda'
import { serve } from '@hono/node-server'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ZipFile } from 'yazl'
import type { NewEvent } from '../../runtime/async/async-events.ts'
import { createControlApi } from '../../runtime/control/api.ts'
import { openAccessKeys } from '../../runtime/lambda-api/access-keys.ts'
import { createLambdaApi, isLambdaApiPath } from '../../runtime/lambda-api/api.ts'
import type { IncomingResponse, InvokeOptions, LambdaApiPorts } from '../../runtime/lambda-api/ports.ts'
import { openEmbeddedBucket } from '../../runtime/registry/embedded-bucket.ts'
import { openRegistry } from '../../runtime/registry/registry-store.ts'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { Version } from '../../sdk/model/function.ts'
import type { NewAccessKey } from '../../sdk/model/lambda.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import type { ScalingStatus } from '../../sdk/model/node-status.ts'

export const TOKEN = 'a-token-of-the-tests'
export const IMAGE_ID = `sha256:${'ab'.repeat(32)}`

export interface LambdaPlace {
  readonly ports: LambdaApiPorts
  readonly url: string
  readonly directory: string
  readonly key: NewAccessKey
  /** With the key, and no retries. */
  readonly client: LambdaClient
  readonly started: Version[]
  readonly invoked: InvokeOptions[]
  readonly enqueued: NewEvent[]
  readonly faults: unknown[]
  readonly followers: Set<(line: LogLine) => void>
  /** What the fake node does; tests replace these. */
  readonly node: {
    trialStart: (version: Version) => Promise<void>
    whenLive: (generation: number) => Promise<void>
    invoke: (options: InvokeOptions) => Promise<IncomingResponse>
    enqueue: (event: NewEvent) => Promise<void>
    images: Map<string, string>
    resolveImage: ((reference: string) => Promise<string>) | undefined
    scaling: ScalingStatus[]
    nowMs: (() => number) | undefined
  }
  readonly idle: () => Promise<void>
  connect(
    options?: Partial<NewAccessKey> & { readonly region?: string; readonly maxAttempts?: number },
  ): LambdaClient
  close(): Promise<void>
}

export async function openLambdaPlace(
  options: { readonly changeWaitMs?: number } = {},
): Promise<LambdaPlace> {
  const directory = await mkdtemp(join(tmpdir(), 'isola-lambda-api-'))
  const registry = await openRegistry({
    bucket: openEmbeddedBucket({ directory: join(directory, 'bucket') }),
    now: Date.now,
    newId: randomUUID,
  })
  const keys = await openAccessKeys(join(directory, 'keys.json'))
  const key = await keys.create({ description: 'tests' })
  const started: Version[] = []
  const invoked: InvokeOptions[] = []
  const enqueued: NewEvent[] = []
  const faults: unknown[] = []
  const followers: LambdaPlace['followers'] = new Set()
  const node: LambdaPlace['node'] = {
    trialStart: async () => undefined,
    whenLive: async () => undefined,
    invoke: async ({ payload }) => answerOf(payload),
    enqueue: async () => undefined,
    images: new Map(),
    resolveImage: undefined,
    scaling: [],
    nowMs: undefined,
  }
  const ports: LambdaApiPorts = {
    registry,
    keys,
    baseDomain: 'localhost',
    httpPort: () => 8080,
    async trialStart(version) {
      await node.trialStart(version)
      started.push(version)
      return { trialMs: 1 }
    },
    whenLive: (generation) => node.whenLive(generation),
    status: () => ({
      version: '0.1.0',
      dataDirectory: directory,
      httpUrl: 'http://127.0.0.1:8080',
      controlUrl: 'http://127.0.0.1:9090',
      baseDomain: 'localhost',
      generation: registry.head.generation,
      sandbox: 'none',
      limits: 'none',
      budget: { memoryMib: 1_024, cpus: 2 },
      scaling: node.scaling,
      events: [],
      processes: [],
    }),
    usage: async () => ({ hours: [], lagS: 10 }),
    metrics: async () => ({ contentType: 'text/plain', text: '' }),
    logs: {
      read: async () => [],
      follow(_functionName, onLine) {
        followers.add(onLine)
        return () => followers.delete(onLine)
      },
    },
    events: {
      async enqueue(event) {
        await node.enqueue(event)
        enqueued.push(event)
      },
    },
    async invoke(options) {
      invoked.push(options)
      return await node.invoke(options)
    },
    async resolveImage(reference) {
      const imageId = (await node.resolveImage?.(reference)) ?? node.images.get(reference)
      if (imageId !== undefined) return { imageId, sizeBytes: 1, architecture: 'amd64' }
      throw new IsolaError('image_not_found', `there is no image "${reference}": build or load it first`)
    },
  }
  const control = createControlApi(ports, { token: TOKEN, onFault: (error) => faults.push(error) })
  const lambda = createLambdaApi(ports, {
    onFault: (error) => faults.push(error),
    now: () => node.nowMs?.() ?? Date.now(),
    architecture: 'x86_64',
    ...options,
  })
  const server = serve({
    fetch: (request) =>
      isLambdaApiPath(new URL(request.url).pathname) ? lambda(request) : control.fetch(request),
    port: 0,
    hostname: '127.0.0.1',
  }) as Server
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const clients: LambdaClient[] = []
  const connect: LambdaPlace['connect'] = ({ region = 'us-east-1', maxAttempts = 1, ...changed } = {}) => {
    const credentials = { ...key, ...changed }
    const client = new LambdaClient({ endpoint: url, region, credentials, maxAttempts })
    clients.push(client)
    return client
  }
  return {
    ports,
    url,
    directory,
    key,
    client: connect(),
    started,
    invoked,
    enqueued,
    faults,
    followers,
    node,
    idle: () => lambda.idle(),
    connect,
    async close() {
      for (const client of clients) client.destroy()
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
      await lambda.idle()
      registry.close()
      await rm(directory, { recursive: true })
    },
  }
}

/** As the router's inner door answers. */
export function answerOf(
  body: Uint8Array | string | readonly (Uint8Array | Error)[],
  head: { readonly status?: number; readonly headers?: Record<string, string> } = {},
): IncomingResponse {
  const chunks: readonly (Uint8Array | Error)[] =
    typeof body === 'string' ? [Buffer.from(body)] : body instanceof Uint8Array ? [body] : body
  return {
    status: head.status ?? 200,
    headers: { 'content-type': 'application/json', ...head.headers },
    body: (async function* () {
      for (const chunk of chunks) {
        if (chunk instanceof Error) throw chunk
        yield chunk
      }
    })(),
  }
}

/** A refusal of the router's. */
export function refusalOf(status: number, code: string, message: string): IncomingResponse {
  return answerOf(JSON.stringify({ error: { code, message, requestId: 'r' } }), { status })
}

export async function zipOf(files: Readonly<Record<string, string>>): Promise<Buffer> {
  const zip = new ZipFile()
  for (const [name, text] of Object.entries(files)) zip.addBuffer(Buffer.from(text), name)
  zip.end()
  const chunks: Buffer[] = []
  for await (const chunk of zip.outputStream) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

export const HANDLER = { 'index.mjs': 'export const handler = async (event) => event' }

/** The least that CreateFunction takes. */
export async function newFunction(FunctionName: string, files: Record<string, string> = HANDLER) {
  return {
    FunctionName,
    Role: 'arn:aws:iam::000000000000:role/any',
    Runtime: 'nodejs24.x',
    Handler: 'index.handler',
    Code: { ZipFile: await zipOf(files) },
  } as const
}

/** What a call was refused with, as the SDK throws it. */
export async function errorOf(call: Promise<unknown>): Promise<{
  readonly name: string
  readonly message: string
  readonly status: number | undefined
  readonly [field: string]: unknown
}> {
  try {
    await call
  } catch (error) {
    const thrown = error as Error & { readonly $metadata?: { readonly httpStatusCode?: number } }
    const { name, message, $metadata } = thrown
    return { ...Object.fromEntries(Object.entries(thrown)), name, message, status: $metadata?.httpStatusCode }
  }
  throw new Error('it was not refused')
}
