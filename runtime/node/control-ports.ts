import { IsolaError, isIsolaError } from '../../sdk/model/errors.ts'
import type { AccessKeys, ControlPorts, ImagePort } from '../control/ports.ts'
import type { AssetFiles } from './asset-files.ts'
import type { Registry } from '../registry/registry.ts'
import type { LogStore } from './log-store.ts'
import type { RouterHold } from './router-hold.ts'
import type { NodeStatus } from '../../sdk/model/node-status.ts'
import type { Supervisor } from './supervisor.ts'

/** What the control operations see of this node. */
export interface ControlParts extends Pick<
  ControlPorts,
  'usage' | 'metrics' | 'invoker' | 'asyncEvents' | 'secrets'
> {
  readonly images: ImagePort
  readonly keys: AccessKeys
  readonly registry: Registry
  readonly assets: Pick<AssetFiles, 'prepare'>
  readonly baseDomain: string
  readonly supervisor: Supervisor
  readonly router: RouterHold
  readonly logs: LogStore
  status(): NodeStatus
}

export function controlPorts(parts: ControlParts): ControlPorts & { readonly keys: AccessKeys } {
  const { registry, assets, baseDomain, supervisor, router, logs, images, keys } = parts
  return {
    registry,
    baseDomain,
    httpPort: () => router.httpPort,
    trialStart: async (version) => {
      const beganMs = performance.now()
      await assets.prepare(version)
      // Nothing but static files.
      if (version.content.kind === 'worker' && version.content.mainModule === '') return { trialMs: 0 }
      try {
        await supervisor.trialStart(version)
      } catch (error) {
        // Only these are about the version; a full node or a damaged blob is not the fault of who deploys.
        if (!isIsolaError(error) || !['start_failed', 'version_refused'].includes(error.code)) throw error
        throw new IsolaError('version_refused', `the version does not start: ${error.message}`, {
          cause: error,
        })
      }
      return { trialMs: performance.now() - beganMs }
    },
    whenLive: (generation) => router.whenLive(generation),
    status: () => parts.status(),
    usage: (query) => parts.usage(query),
    metrics: () => parts.metrics(),
    logs,
    images,
    keys,
    ...(parts.secrets && { secrets: parts.secrets }),
    ...(parts.invoker && { invoker: parts.invoker }),
    ...(parts.asyncEvents && { asyncEvents: parts.asyncEvents }),
  }
}
