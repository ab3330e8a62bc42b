/**
 * A control API on a real registry, served over real HTTP. Faked is only what the node does: trial starts, the
 * router's word that a generation is in force, and logs.
 */
import { serve } from '@hono/node-server'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { createControlApi } from '../../runtime/control/api.ts'
import type { ControlPorts } from '../../runtime/control/ports.ts'
import { openSecretBox } from '../../runtime/registry/secret-box.ts'
import type { Registry } from '../../runtime/registry/registry.ts'
import { createClient, type ControlClient } from '../../sdk/client/client.ts'
import type { DeployResult } from '../../sdk/model/control.ts'
import type { Bundle, Module } from '../../sdk/model/bundle.ts'
import type { DeployBundleOptions } from '../../sdk/client/client.ts'
import type { Version } from '../../sdk/model/function.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import type { ScalingStatus } from '../../sdk/model/node-status.ts'
import { createRegistryPlace, type RegistryPlace } from './registry-fixture.ts'

export const TOKEN = 'a-token-of-the-tests'

export interface ControlPlace extends RegistryPlace {
  readonly registry: Registry
  readonly ports: ControlPorts
  readonly client: ControlClient
  readonly url: string
  /** Versions that were trial-started, in order. */
  readonly started: Version[]
  /** Faults the API reported, and not more than those. */
  readonly faults: unknown[]
  /** What the fake node does; tests replace these. */
  readonly node: {
    trialStart: (version: Version) => Promise<void>
    whenLive: (generation: number) => Promise<void>
    httpPort: number
    past: LogLine[]
    scaling: ScalingStatus[]
    usage: ControlPorts['usage']
    metrics: ControlPorts['metrics']
  }
  /** Listeners of followed logs. */
  readonly followers: Set<(line: LogLine) => void>
  readonly call: (
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ) => Promise<Response>
  close(): Promise<void>
}

export async function openControlPlace(
  options: { readonly logHeartbeatMs?: number } = {},
): Promise<ControlPlace> {
  const place = createRegistryPlace()
  const registry = await place.open()
  const keyDirectory = mkdtempSync(join(tmpdir(), 'isola-key-'))
  const started: Version[] = []
  const faults: unknown[] = []
  const followers: ControlPlace['followers'] = new Set()
  const node: ControlPlace['node'] = {
    trialStart: async () => undefined,
    whenLive: async () => undefined,
    httpPort: 8080,
    past: [],
    scaling: [],
    usage: async () => ({ hours: [], lagS: 10 }),
    metrics: async () => ({ contentType: 'text/plain; version=0.0.4', text: 'isola_up 1\n' }),
  }
  const ports: ControlPorts = {
    registry,
    secrets: openSecretBox(join(keyDirectory, 'fleet.key')),
    baseDomain: 'localhost',
    httpPort: () => node.httpPort,
    async trialStart(version) {
      await node.trialStart(version)
      started.push(version)
      return { trialMs: 12 }
    },
    whenLive: (generation) => node.whenLive(generation),
    status: () => ({
      version: '0.1.0',
      dataDirectory: '/data',
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
    usage: (query) => node.usage(query),
    metrics: () => node.metrics(),
    logs: {
      read: async (functionName, { lines }) =>
        node.past.filter((line) => line.functionName === functionName).slice(-lines || node.past.length),
      follow(_functionName, onLine) {
        followers.add(onLine)
        return () => followers.delete(onLine)
      },
    },
  }
  const api = createControlApi(ports, { token: TOKEN, onFault: (error) => faults.push(error), ...options })
  const server = serve({ fetch: (request) => api.fetch(request), port: 0, hostname: '127.0.0.1' }) as Server
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return Object.assign(place, {
    registry,
    ports,
    started,
    faults,
    node,
    followers,
    url,
    client: createClient({ controlUrl: url, token: TOKEN }),
    call: (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
      fetch(`${url}${path}`, {
        method,
        headers: { authorization: `Bearer ${TOKEN}`, ...headers },
        ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      }),
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
      registry.close()
      rmSync(keyDirectory, { recursive: true, force: true })
    },
  })
}

export function bundleOf(code: string, extra: readonly Module[] = []): Bundle {
  const main: Module = { name: 'index.js', kind: 'esm', body: new TextEncoder().encode(code) }
  return { mainModule: 'index.js', modules: [main, ...extra], digest: '' }
}

export const DEPLOY_OPTIONS: DeployBundleOptions = {
  kind: 'worker',
  bindings: [],
  compatibilityDate: '2026-11-01',
  compatibilityFlags: [],
  routes: [],
  baseDomainHost: true,
  previewHosts: true,
}

/** The version that receives most of a deploy's traffic. */
export function versionOf(result: DeployResult): string {
  return result.deployment.shares[0]?.versionId ?? ''
}

/** Matches an error by its code and message. */
export function refused(code: string, message: RegExp): Error {
  return expect.objectContaining({ code, message: expect.stringMatching(message) as string }) as Error
}

export function logLine(message: string, functionName = 'shop'): LogLine {
  return {
    time: '2026-11-21T10:00:00.000Z',
    source: 'console',
    level: 'log',
    functionName,
    versionId: '0'.repeat(32),
    message,
  }
}
