/** A real node for a bench (`isola up` in a temporary directory), and functions of one module on it. */
import { createHash } from 'node:crypto'
import type { Bundle } from '../../sdk/model/bundle.ts'
import type { DeployResult } from '../../sdk/model/control.ts'
import type { ProcessStatus } from '../../sdk/model/node-status.ts'
import { createClient, type ControlClient } from '../../sdk/client/client.ts'
import { startTestNode, type TestNode } from '../harness/node.ts'

export interface BenchNode {
  readonly node: TestNode
  readonly client: ControlClient
  /** Where the router listens. */
  readonly where: { readonly host: string; readonly port: number }
  /** What confines and limits instances here, for the conditions of a report. */
  readonly conditions: readonly string[]
  /** A module with `export default { fetch }` as version 100 % of the function. */
  deploy(functionName: string, source: string): Promise<DeployResult>
  /** Resolves when the processes fit. Throws after a minute, with what there was. */
  waitFor(
    what: string,
    isSo: (processes: readonly ProcessStatus[]) => boolean,
  ): Promise<readonly ProcessStatus[]>
  stop(): Promise<void>
}

/** `bin`: an `isola` of the bench's own, e.g. one that joins a cgroup first. */
export async function startBenchNode(flags: readonly string[] = [], bin?: string): Promise<BenchNode> {
  const node = await startTestNode({ flags, ...(bin !== undefined && { bin }) })
  const client = createClient({ controlUrl: node.controlUrl, token: node.token })
  const url = new URL(node.httpUrl)
  const status = await client.status()
  return {
    node,
    client,
    where: { host: url.hostname, port: Number(url.port) },
    conditions: [`a whole node (isola up); sandbox: ${status.sandbox}; limits: ${status.limits}`],
    deploy: (functionName, source) =>
      client.deployBundle(functionName, bundleOf(source), {
        kind: 'worker',
        bindings: [],
        compatibilityDate: '2026-11-01',
        compatibilityFlags: [],
        routes: [],
        baseDomainHost: true,
        previewHosts: true,
      }),
    async waitFor(what, isSo) {
      const deadlineMs = performance.now() + 60_000
      for (;;) {
        const { processes } = await client.status()
        if (isSo(processes)) return processes
        if (performance.now() > deadlineMs) {
          throw new Error(
            `${what}: not so after a minute; the node has ${JSON.stringify(processes, undefined, 1)}`,
          )
        }
        await new Promise((resolve) => setTimeout(resolve, 25))
      }
    },
    async stop() {
      const { leftBehind } = await node.stop()
      if (leftBehind.length > 0) throw new Error(`the node left processes behind: ${leftBehind.join(', ')}`)
    },
  }
}

function bundleOf(source: string): Bundle {
  const body = Buffer.from(source)
  const digest = createHash('sha256').update(body).digest('hex')
  return { mainModule: 'index.js', modules: [{ name: 'index.js', kind: 'esm', body }], digest }
}

/** A function that answers with a text of its own, padded with about `sizeBytes` of code it does not call, as bundles are. */
export function sourceOf(answer: string, sizeBytes = 0): string {
  const parts: string[] = []
  for (let length = 0, index = 0; length < sizeBytes; index++) {
    const part = `function f${index}(a, b) { if (a > ${index}) return { a, b, name: 'f${index}' }\n  return [a, b].map((c) => c * ${index}).join(',') }\n`
    parts.push(part)
    length += part.length
  }
  return `${parts.join('')}export default { fetch() { return new Response(${JSON.stringify(answer)}) } }\n`
}
