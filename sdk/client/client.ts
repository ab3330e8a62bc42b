import type { Bundle, Module, ModuleRef } from '../model/bundle.ts'
import type {
  DeployRequest,
  DeployResult,
  Hosting,
  LimitsView,
  PolicyView,
  RouteEntry,
  SettingsRequest,
  SettingsView,
  TrafficRequest,
  UsageQuery,
  VersionRequest,
  VersionSummary,
  WorkerVersionRequest,
} from '../model/control.ts'
import type { DeadLetterSummary, DeadLetterView } from '../model/dead-letter.ts'
import { isIsolaError } from '../model/errors.ts'
import type { BlobRef, FunctionRecord, Version } from '../model/function.ts'
import type { LogLine } from '../model/log-line.ts'
import type { NodeStatus } from '../model/node-status.ts'
import type { FunctionLimitsChange } from '../model/function-limits.ts'
import type { PolicyChange } from '../model/policy.ts'
import type { UsageReport } from '../model/usage.ts'
import { createSend, parseControlUrl, readJson, readText, type Call, type NodeAddress } from './call.ts'
import { imageCalls, type ImageCalls } from './images.ts'
import { invoke, type InvokeRequest, type InvokeResult } from './invoke.ts'
import { readJsonLines } from './json-lines.ts'
import { uploadAssets, uploadBlobs, type AssetsToUpload, type UploadOptions } from './upload-blobs.ts'

/**
 * The control API of one node, typed. Every method throws what the node refuses with, by the same code and with the
 * same details, and `node_unreachable` where no node answers.
 */
export interface ControlClient extends ImageCalls {
  status(): Promise<NodeStatus>
  listFunctions(): Promise<readonly FunctionRecord[]>
  getFunction(functionName: string): Promise<FunctionRecord>
  deleteFunction(functionName: string): Promise<{ readonly generation: number }>
  /** Newest first. */
  listVersions(functionName: string): Promise<readonly VersionSummary[]>

  /** Sends the modules the node does not have yet; returns all by reference, for `deploy` and `createVersion`. */
  uploadBlobs(modules: readonly Module[], options?: UploadOptions): Promise<ModuleRef[]>
  /** The blobs must be there (`uploadBlobs`); no traffic yet. */
  createVersion(functionName: string, request: VersionRequest): Promise<Version>
  /** The blobs must be there (`uploadBlobs`). */
  deploy(functionName: string, request: DeployRequest): Promise<DeployResult>
  /** Uploads what is missing, then deploys. */
  deployBundle(functionName: string, bundle: Bundle, options: DeployBundleOptions): Promise<DeployResult>

  /** Sends a zip archive that the node does not have yet, for the `source` of a container function. */
  uploadArchive(bytes: Uint8Array, options?: UploadOptions): Promise<BlobRef>
  /** Of a container function of protocol `lambda`. That the function failed is a result, not an error. */
  invoke(functionName: string, request: InvokeRequest): Promise<InvokeResult>
  /** Newest first; of events that could not be worked on. */
  listDeadLetters(
    functionName: string,
    options?: { readonly limit?: number },
  ): Promise<readonly DeadLetterSummary[]>
  getDeadLetter(id: string): Promise<DeadLetterView>
  /** Its event is tried again from the start. */
  redriveDeadLetter(id: string): Promise<{ readonly id: string }>
  discardDeadLetter(id: string): Promise<{ readonly id: string }>

  setTraffic(functionName: string, request: TrafficRequest): Promise<DeployResult>
  /** Without `versionId`: to the deployment before the current one. */
  rollback(functionName: string, request?: { readonly versionId?: string }): Promise<DeployResult>
  listRoutes(): Promise<readonly RouteEntry[]>
  addRoute(
    functionName: string,
    route: { readonly pattern: string; readonly origin?: string },
  ): Promise<{ readonly generation: number }>
  removeRoute(
    functionName: string,
    route: { readonly pattern: string },
  ): Promise<{ readonly generation: number }>

  getPolicy(functionName: string): Promise<PolicyView>
  /** Fields to set, and `null` for those that shall come from the fleet again. In force when it resolves. */
  setPolicy(functionName: string, change: PolicyChange): Promise<PolicyView>
  getLimits(functionName: string): Promise<LimitsView>
  setLimits(functionName: string, change: FunctionLimitsChange): Promise<LimitsView>
  getSettings(): Promise<SettingsView>
  /** Of the fleet: all of it, or nothing. */
  setSettings(change: SettingsRequest): Promise<SettingsView>

  usage(query?: UsageQuery): Promise<UsageReport>
  /** Prometheus text exposition format. */
  metrics(): Promise<string>
  /** Oldest first. With `follow` it goes on until `signal` aborts or the loop is left. */
  logs(functionName: string, options?: LogOptions): AsyncIterable<LogLine>
}

/** What a bundle does not say about its deploy. */
export type DeployBundleOptions = Omit<WorkerVersionRequest, 'mainModule' | 'format' | 'modules' | 'assets'> &
  Hosting &
  UploadOptions & { readonly staticFiles?: AssetsToUpload }

interface LogOptions {
  /** Lines from before now. @default 100 */
  readonly lines?: number
  /** @default false */
  readonly follow?: boolean
  readonly signal?: AbortSignal
}

/** Connects to nothing yet. Throws `invalid_argument` for an address that is none. */
export function createClient(address: NodeAddress): ControlClient {
  const send = createSend(address)
  const controlUrl = parseControlUrl(address.controlUrl)
  const json = async <T>(method: Call['method'], path: readonly string[], body?: unknown): Promise<T> =>
    readJson<T>(controlUrl, await send({ method, path, body }))
  const upload: ControlClient['uploadBlobs'] = (modules, options) =>
    uploadBlobs({ send, controlUrl, modules, ...options })

  const client: ControlClient = {
    status: () => json('GET', ['status']),
    listFunctions: async () => (await json<{ functions: FunctionRecord[] }>('GET', ['functions'])).functions,
    getFunction: (name) => json('GET', ['functions', name]),
    deleteFunction: (name) => json('DELETE', ['functions', name]),
    listVersions: async (name) =>
      (await json<{ versions: VersionSummary[] }>('GET', ['functions', name, 'versions'])).versions,
    uploadBlobs: upload,
    createVersion: (name, request) => json('POST', ['functions', name, 'versions'], request),
    deploy: (name, request) => json('POST', ['functions', name, 'deploy'], request),
    async deployBundle(name, bundle, { onProgress, staticFiles, ...fields }) {
      const attempt = async (): Promise<DeployResult> => {
        const progress = onProgress && { onProgress }
        const modules = await upload(bundle.modules, progress)
        const code = {
          mainModule: bundle.mainModule,
          ...(bundle.format && { format: bundle.format }),
          modules,
        }
        if (staticFiles === undefined) return client.deploy(name, { ...fields, ...code })
        const uploaded = await uploadAssets({ send, controlUrl, assets: staticFiles, ...progress })
        return client.deploy(name, { ...fields, ...code, assets: uploaded })
      }
      try {
        return await attempt()
      } catch (error) {
        // An old blob that was there when we asked may have been collected before it was named: once more is enough,
        // because what is uploaded now is young.
        if (!isIsolaError(error) || error.code !== 'blob_missing') throw error
        return attempt()
      }
    },
    ...imageCalls({ send, controlUrl }),
    async uploadArchive(bytes, options) {
      const [ref] = await upload([{ name: 'archive.zip', kind: 'data', body: bytes }], options)
      return { sha256: ref?.sha256 ?? '', sizeBytes: bytes.byteLength }
    },
    invoke: (name, request) => invoke({ send, controlUrl }, name, request),
    async listDeadLetters(name, { limit } = {}) {
      const query = { ...(limit !== undefined && { limit: String(limit) }) }
      const response = await send({ method: 'GET', path: ['functions', name, 'dead-letters'], query })
      return (await readJson<{ deadLetters: DeadLetterSummary[] }>(controlUrl, response)).deadLetters
    },
    getDeadLetter: (id) => json('GET', ['dead-letters', id]),
    redriveDeadLetter: (id) => json('POST', ['dead-letters', id, 'redrive']),
    discardDeadLetter: (id) => json('DELETE', ['dead-letters', id]),
    setTraffic: (name, request) => json('POST', ['functions', name, 'traffic'], request),
    rollback: (name, request = {}) => json('POST', ['functions', name, 'rollback'], request),
    listRoutes: async () => (await json<{ routes: RouteEntry[] }>('GET', ['routes'])).routes,
    addRoute: (name, route) => json('PUT', ['functions', name, 'routes'], route),
    removeRoute: (name, route) => json('DELETE', ['functions', name, 'routes'], route),
    getPolicy: (name) => json('GET', ['functions', name, 'policy']),
    setPolicy: (name, change) => json('PUT', ['functions', name, 'policy'], change),
    getLimits: (name) => json('GET', ['functions', name, 'limits']),
    setLimits: (name, change) => json('PUT', ['functions', name, 'limits'], change),
    getSettings: () => json('GET', ['settings']),
    setSettings: (change) => json('PUT', ['settings'], change),
    async usage({ sinceMs, functionName } = {}) {
      const query = {
        ...(sinceMs !== undefined && { since: new Date(sinceMs).toISOString() }),
        ...(functionName !== undefined && { function: functionName }),
      }
      return readJson(controlUrl, await send({ method: 'GET', path: ['usage'], query }))
    },
    metrics: async () => readText(controlUrl, await send({ method: 'GET', root: true, path: ['metrics'] })),
    async *logs(name, { lines, follow, signal } = {}) {
      const query = {
        ...(lines !== undefined && { lines: String(lines) }),
        ...(follow === true && { follow: '1' }),
      }
      let response: Response
      try {
        response = await send({
          method: 'GET',
          path: ['functions', name, 'logs'],
          query,
          ...(signal && { signal }),
        })
      } catch (error) {
        if (signal?.aborted === true) return
        throw error
      }
      yield* readJsonLines<LogLine>(response, { controlUrl, signal })
    },
  }
  return client
}
