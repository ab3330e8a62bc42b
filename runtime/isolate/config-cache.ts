/**
 * Encoded configs by version id and memory limit (which V8 is told in it), so that a repeated cold start loads and encodes nothing. Bounded by bytes; what was
 * not wanted for longest goes first. Starts of one version at the same time share one load.
 */
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import type { WorkerVersion } from '../../sdk/model/function.ts'
import { encodeConfig, type ConfigOptions } from './config.ts'
import { limitsInForce } from './limits-in-force.ts'
import { createStackMapper } from './stack-map.ts'

export interface LoadedVersion {
  readonly config: Uint8Array
  readonly mapStack: (stack: string) => string
}

export interface ConfigCacheOptions {
  /** Bodies by digest. */
  loadModules(version: WorkerVersion): Promise<ReadonlyMap<string, Uint8Array>>
  readonly socketDirectory: string
  readonly openSecret?: ConfigOptions['openSecret']
  /** @default INSTANCE_LIMITS.configCacheBytesMax */
  readonly bytesMax?: number
}

export interface ConfigCache {
  /** `memoryMib` is the limit in force. @default what the version asks for, else the default of all functions */
  load(version: WorkerVersion, memoryMib?: number): Promise<LoadedVersion>
  readonly bytes: number
}

export function createConfigCache(options: ConfigCacheOptions): ConfigCache {
  const bytesMax = options.bytesMax ?? INSTANCE_LIMITS.configCacheBytesMax
  // Insertion order is order of use: a hit is taken out and put in again.
  const kept = new Map<string, LoadedVersion & { readonly bytes: number }>()
  const loading = new Map<string, Promise<LoadedVersion>>()
  let bytes = 0

  const load = async (version: WorkerVersion, memoryMib: number, key: string): Promise<LoadedVersion> => {
    const modules = await options.loadModules(version)
    const { socketDirectory, openSecret } = options
    const config = encodeConfig({ version, modules, memoryMib, socketDirectory, openSecret })
    const sourceMaps = sourceMapsOf(version, modules)
    const loaded = { config, mapStack: createStackMapper(sourceMaps), bytes: config.length }
    for (const map of sourceMaps.values()) loaded.bytes += map.length
    if (loaded.bytes > bytesMax) return loaded
    kept.set(key, loaded)
    bytes += loaded.bytes
    for (const [oldestKey, oldest] of kept) {
      if (bytes <= bytesMax) break
      kept.delete(oldestKey)
      bytes -= oldest.bytes
    }
    return loaded
  }
  return {
    get bytes() {
      return bytes
    },
    load(version, memoryMib = limitsInForce(version).memoryMib) {
      const key = `${version.id} ${memoryMib}`
      const hit = kept.get(key)
      if (hit !== undefined) {
        kept.delete(key)
        kept.set(key, hit)
        return Promise.resolve(hit)
      }
      let pending = loading.get(key)
      if (pending === undefined) {
        pending = load(version, memoryMib, key).finally(() => loading.delete(key))
        loading.set(key, pending)
      }
      return pending
    },
  }
}

export function sourceMapsOf(
  version: WorkerVersion,
  modules: ReadonlyMap<string, Uint8Array>,
): ReadonlyMap<string, Uint8Array> {
  const maps = new Map<string, Uint8Array>()
  for (const { name, kind, sha256 } of version.content.modules) {
    const body = modules.get(sha256)
    if (kind === 'sourcemap' && body !== undefined) maps.set(name, body)
  }
  return maps
}
