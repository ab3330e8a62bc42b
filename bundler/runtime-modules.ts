import type { Message, Plugin, PluginBuild } from 'esbuild'

/**
 * Modules that the runtime brings: `cloudflare:*` and `workerd:*` always, those of Node.js by compatibility flag.
 * They stay imports. An ES module cannot `require`, so a `require` of one (npm packages are full of them) becomes an
 * import through a module of two lines.
 */
export type NodeCompatibility = 'none' | 'async-local-storage' | 'bare-names-if-not-installed' | 'all'

/** Names that mean Node.js without `node:` too. Fixed here, so that a bundle does not depend on the Node that made it. */
const BARE_NAMES: ReadonlySet<string> = new Set(
  (
    'assert assert/strict async_hooks buffer child_process cluster console constants crypto dgram ' +
    'diagnostics_channel dns dns/promises domain events fs fs/promises http http2 https inspector ' +
    'inspector/promises module net os path path/posix path/win32 perf_hooks process punycode querystring readline ' +
    'readline/promises repl stream stream/consumers stream/promises stream/web string_decoder sys timers ' +
    'timers/promises tls trace_events tty url util util/types v8 vm wasi worker_threads zlib'
  ).split(' '),
)

const REQUIRED_NAMESPACE = 'runtime-module'
const SKIP = Symbol('runtime-modules')

/** What the flags and the date let a function import, by the rules of the runtime. */
export function nodeCompatibility(options: {
  readonly compatibilityDate: string
  readonly compatibilityFlags: readonly string[]
}): NodeCompatibility {
  const flags = new Set(options.compatibilityFlags)
  if (flags.has('nodejs_compat_v2')) return 'all'
  if (flags.has('nodejs_compat')) {
    const bareNames = options.compatibilityDate >= '2024-09-23' && !flags.has('no_nodejs_compat_v2')
    return bareNames ? 'all' : 'bare-names-if-not-installed'
  }
  return flags.has('nodejs_als') ? 'async-local-storage' : 'none'
}

export function runtimeModules(compatibility: NodeCompatibility): Plugin {
  return {
    name: 'runtime-modules',
    setup(build) {
      build.onResolve({ filter: /^(?:cloudflare|workerd):/ }, ({ path, kind }) => keepImport(path, kind))
      build.onLoad({ filter: /.*/, namespace: REQUIRED_NAMESPACE }, ({ path }) => ({
        contents: `import module_ from ${JSON.stringify(path)}\nmodule.exports = module_\n`,
        loader: 'js',
      }))
      if (compatibility !== 'none') resolveNodeModules(build, compatibility)
    },
  }
}

function resolveNodeModules(build: PluginBuild, compatibility: NodeCompatibility): void {
  const names = compatibility === 'async-local-storage' ? ['async_hooks'] : [...BARE_NAMES]
  const bare = names.join('|')
  const filter = new RegExp(
    compatibility === 'async-local-storage' ? `^(?:node:)?(?:${bare})$` : `^(?:node:.*|${bare})$`,
  )
  build.onResolve({ filter }, async ({ path, kind, importer, resolveDir, pluginData }) => {
    if (pluginData === SKIP) return undefined
    if (compatibility === 'bare-names-if-not-installed' && !path.startsWith('node:')) {
      const installed = await build.resolve(path, { kind, importer, resolveDir, pluginData: SKIP })
      if (installed.errors.length === 0) return installed
    }
    return keepImport(path.startsWith('node:') ? path : `node:${path}`, kind)
  })
}

function keepImport(path: string, kind: string): { path: string; namespace?: string; external?: true } {
  return kind === 'require-call' ? { path, namespace: REQUIRED_NAMESPACE } : { path, external: true }
}

/** What to do about an import that failed because it is Node.js's; nothing for any other message. */
export function nodeImportAdvice(message: Message): string | undefined {
  const name = /^Could not resolve "(?:node:)?([^"]+)"$/.exec(message.text)?.[1]
  if (name === undefined) return undefined
  if (!message.text.includes('"node:') && !BARE_NAMES.has(name)) return undefined
  const narrower = name === 'async_hooks' ? ' (or "nodejs_als", which is this module alone)' : ''
  return `"${name}" is a module of Node.js: add "nodejs_compat"${narrower} to compatibility_flags in the configuration`
}
