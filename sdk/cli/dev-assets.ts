import type { ModuleDefinition, WorkerOptions } from 'miniflare'
import type { BuiltFunction } from './build-function.ts'

/** The static files of a function, as miniflare serves them: by Cloudflare's own workers. */
export function devAssets({ config }: BuiltFunction): Partial<Pick<WorkerOptions, 'assets'>> {
  if (config.assets === undefined) return {}
  const { directory } = config.assets
  const { htmlHandling, notFoundHandling, runWorkerFirst } = config.assets.config
  const binding = config.bindings.find(({ type }) => type === 'assets')?.name
  const rules = typeof runWorkerFirst === 'object' ? runWorkerFirst : undefined
  return {
    assets: {
      workerName: config.functionName,
      directory,
      ...(binding !== undefined && { binding }),
      routerConfig: {
        has_user_worker: config.build.main !== '',
        invoke_user_worker_ahead_of_assets: runWorkerFirst === true,
        ...(rules !== undefined && {
          static_routing: {
            user_worker: rules.filter((rule) => !rule.startsWith('!')),
            asset_worker: rules.filter((rule) => rule.startsWith('!')).map((rule) => rule.slice(1)),
          },
        }),
      },
      assetConfig: {
        ...(htmlHandling !== undefined && { html_handling: htmlHandling }),
        ...(notFoundHandling !== undefined && { not_found_handling: notFoundHandling }),
      },
    },
  }
}

/** In the place of code where there is none: miniflare wants some, and never asks it. */
export const NO_CODE: readonly ModuleDefinition[] = [
  {
    type: 'ESModule',
    path: '__isola_entry.js',
    contents: 'export default { fetch: () => new Response(null, { status: 404 }) }',
  },
]
