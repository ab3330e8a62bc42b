/**
 * A node of its own with functions of one module each, deployed through the control API (no bundler in the way), and
 * steady traffic on them: what the fault tests are made of.
 */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { createClient, type ControlClient } from '../../sdk/client/client.ts'
import type { DeployResult } from '../../sdk/model/control.ts'
import type { Binding, VersionLimits } from '../../sdk/model/function.ts'
import type { NodeStatus, ProcessStatus } from '../../sdk/model/node-status.ts'
import type { Policy } from '../../sdk/model/policy.ts'
import { startTestNode, type TestNode, type TestNodeOptions, type TestRequest } from './node.ts'

export interface WorkNode extends TestNode {
  client(): ControlClient
  deploy(name: string, source: string, options?: DeployOptions): Promise<DeployResult>
  /** The processes that fit, as soon as some do. */
  instances(name: string): Promise<readonly ProcessStatus[]>
  /** Asks again until it is so; the test's own timeout is the bound. */
  until<T>(look: () => Promise<T | undefined | false>): Promise<T>
  /** `<function>.localhost`, with the error code of isola's own answers. */
  get(name: string, path?: string, init?: TestRequest): Promise<Answer>
  /** Requests one after the other on `concurrency` connections until stopped. */
  traffic(name: string, options?: TrafficOptions): Traffic
  /** What the node keeps outside of its data directory: cgroups, sockets, directories. */
  traces(): readonly string[]
}

export interface DeployOptions {
  readonly limits?: Partial<VersionLimits>
  readonly policy?: Partial<Policy>
  readonly previewHosts?: boolean
  readonly bindings?: readonly Binding[]
  readonly compatibilityFlags?: readonly string[]
}

export interface Answer {
  readonly status: number
  readonly text: string
  readonly code: string | undefined
  readonly message: string
  readonly retryAfter: string | undefined
}

export interface TrafficOptions {
  readonly concurrency?: number
  readonly path?: string
  readonly isGood?: (answer: { readonly status: number; readonly text: string }) => boolean
}

export interface Traffic {
  readonly answered: number
  readonly texts: ReadonlySet<string>
  /** Resolves after so many more good answers. */
  more(count: number): Promise<void>
  /** Resolves when the last request has ended. */
  stop(): Promise<{ readonly answered: number; readonly failures: readonly string[] }>
}

export async function startWorkNode(options: TestNodeOptions = {}): Promise<WorkNode> {
  return withWork(await startTestNode(options))
}

function withWork(node: TestNode): WorkNode {
  const client = (): ControlClient => createClient({ controlUrl: node.controlUrl, token: node.token })
  const runName = createHash('sha256').update(node.dataDirectory).digest('hex').slice(0, 12)
  const work = {
    client,
    async deploy(name: string, source: string, deploy: DeployOptions = {}) {
      const body = Buffer.from(source)
      const result = await client().deployBundle(
        name,
        {
          mainModule: 'index.js',
          modules: [{ name: 'index.js', kind: 'esm', body }],
          digest: createHash('sha256').update(body).digest('hex'),
        },
        {
          kind: 'worker',
          bindings: deploy.bindings ?? [],
          compatibilityDate: '2026-11-01',
          compatibilityFlags: deploy.compatibilityFlags ?? [],
          routes: [],
          baseDomainHost: true,
          previewHosts: deploy.previewHosts ?? false,
          ...(deploy.limits && { limits: deploy.limits }),
        },
      )
      if (deploy.policy !== undefined) await client().setPolicy(name, deploy.policy)
      return result
    },
    async instances(name: string) {
      const { processes } = await node.status()
      return processes.filter((process) => process.role === 'instance' && process.function === name)
    },
    until: untilSo,
    async get(name: string, path = '/', init: TestRequest = {}) {
      const response = await node.fetch(`${name}.localhost`, path, init)
      const text = response.text()
      let error: { code?: string; message?: string } = {}
      if (text.startsWith('{"error"')) error = (JSON.parse(text) as { error: typeof error }).error
      const retryAfter = response.headers['retry-after']
      return { status: response.status, text, code: error.code, message: error.message ?? '', retryAfter }
    },
    traffic: (name: string, traffic: TrafficOptions = {}) => startTraffic(node.httpUrl, name, traffic),
    traces: () => [
      ...['/sys/fs/cgroup', ...listed('/sys/fs/cgroup').map((each) => `/sys/fs/cgroup/${each}`)]
        .map((each) => `${each}/isola-${runName}`)
        .filter((path) => existsSync(path)),
      ...[`/run/isola/${runName}`].filter((path) => existsSync(path)),
    ],
  }
  // The node's own getters must stay getters.
  return Object.defineProperties(work, Object.getOwnPropertyDescriptors(node)) as unknown as WorkNode
}

/** Asks again until it is so; the test's own timeout is the bound. */
export async function untilSo<T>(look: () => Promise<T | undefined | false>): Promise<T> {
  for (;;) {
    const found = await look()
    if (found !== undefined && found !== false) return found
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

export function processesOf(status: NodeStatus, role: ProcessStatus['role']): readonly ProcessStatus[] {
  return status.processes.filter((process) => process.role === role)
}

function startTraffic(httpUrl: string, name: string, options: TrafficOptions): Traffic {
  const { concurrency = 4, path = '/', isGood = ({ status }) => status === 200 } = options
  const { hostname, port } = new URL(httpUrl)
  const agent = new Agent({ keepAlive: true, maxSockets: concurrency })
  const failures: string[] = []
  const texts = new Set<string>()
  const waiting: { readonly at: number; wake(): void }[] = []
  let answered = 0
  const stopping = new AbortController()
  const once = (): Promise<void> =>
    new Promise((resolve) => {
      const outgoing = request(
        { hostname, port, path, agent, headers: { host: `${name}.localhost:${port}` } },
        (response) => {
          let text = ''
          response.setEncoding('utf8')
          response.on('data', (chunk: string) => (text += chunk))
          response.on('error', (error) => failures.push(`broke off: ${error.message}`))
          response.on('close', resolve)
          response.on('end', () => {
            const status = response.statusCode ?? 0
            if (!isGood({ status, text })) {
              failures.push(`${status} ${text.slice(0, 300)}`)
              return
            }
            answered++
            if (texts.size < 1_000) texts.add(text)
            for (const waiter of waiting) if (waiter.at === answered) waiter.wake()
          })
        },
      )
      outgoing.on('error', (error) => {
        failures.push(`${(error as NodeJS.ErrnoException).code}: ${error.message}`)
        resolve()
      })
      outgoing.end()
    })
  const worker = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      await once()
      await new Promise(setImmediate)
    }
  }
  const workers = Array.from({ length: concurrency }, worker)
  return {
    get answered() {
      return answered
    },
    texts,
    more: (count) => new Promise((wake) => waiting.push({ at: answered + count, wake })),
    async stop() {
      stopping.abort()
      await Promise.all(workers)
      agent.destroy()
      return { answered, failures }
    },
  }
}

function listed(directory: string): string[] {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}
