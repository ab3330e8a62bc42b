import type { Bundle } from '../../model/bundle.ts'
import { buildFunction, type BuiltFunction, SOURCE_FLAGS } from '../build-function.ts'
import { type Command, type CommandContext, type CommandResult, NODE_FLAGS } from '../command.ts'
import { formatDeployResult } from '../deploy-result.ts'
import { connectToNode, findNode } from '../find-node.ts'
import { formatBytes, formatTable } from '../output.ts'

/** A deploy over a slow line shows that it moves. */
const PROGRESS_EVERY_MS = 1_000

export const deployCommand: Command = {
  name: 'deploy',
  summary: 'bundle a function and make it live',
  usage: '[DIR | FILE]',
  words: [0, 1],
  flags: {
    ...SOURCE_FLAGS,
    message: { type: 'text', short: 'm', value: 'TEXT', help: 'why, kept with the version' },
    'dry-run': { type: 'boolean', help: 'bundle and check, but send nothing' },
    ...NODE_FLAGS,
  },
  notes: [
    'DIR holds wrangler.jsonc, wrangler.json or wrangler.toml (default: the working directory); FILE is the main module.',
    'A version that does not start is refused with its message, and the old one keeps serving.',
  ].join('\n'),
  examples: [
    'isola deploy',
    'isola deploy examples/hello --name greeter',
    'isola deploy --env staging --dry-run',
  ],
  async run(context) {
    const dryRun = context.flags.has('dry-run')
    // Before the work of bundling: without a node it would be for nothing.
    if (!dryRun) await findNode(context)
    const built = await buildFunction(context)
    for (const warning of built.warnings) context.output.warn(warning)
    return dryRun ? describe(built) : await deploy(context, built)
  },
}

async function deploy(
  context: CommandContext,
  { bundle, config, warnings }: BuiltFunction,
): Promise<CommandResult> {
  const { output } = context
  const client = await connectToNode(context)
  const message = context.flags.text('message')
  output.progress(
    `${config.functionName}: ${bundle.modules.length} modules, ${formatBytes(bundleBytes(bundle))}`,
  )
  let shownAtMs = performance.now()
  const result = await client.deployBundle(config.functionName, bundle, {
    kind: 'worker',
    bindings: config.bindings,
    compatibilityDate: config.compatibilityDate,
    compatibilityFlags: config.compatibilityFlags,
    limits: config.limits,
    routes: config.routes,
    baseDomainHost: config.baseDomainHost,
    previewHosts: config.previewHosts,
    ...(message !== undefined && { message }),
    onProgress({ sentBytes, totalBytes }) {
      if (performance.now() - shownAtMs < PROGRESS_EVERY_MS) return
      shownAtMs = performance.now()
      output.progress(`sent ${formatBytes(sentBytes)} of ${formatBytes(totalBytes)}`)
    },
  })
  return { document: { ...result, warnings }, text: formatDeployResult(result) }
}

function describe({ bundle, config, warnings }: BuiltFunction): CommandResult {
  const modules = bundle.modules.map(({ name, kind, body }) => ({ name, kind, sizeBytes: body.byteLength }))
  return {
    document: {
      functionName: config.functionName,
      digest: bundle.digest,
      mainModule: bundle.mainModule,
      modules,
      bindings: config.bindings,
      compatibilityDate: config.compatibilityDate,
      compatibilityFlags: config.compatibilityFlags,
      routes: config.routes,
      warnings,
    },
    text: [
      `${config.functionName}: bundle ${bundle.digest.slice(0, 16)}, nothing was sent`,
      formatTable(
        ['MODULE', 'KIND', 'SIZE'],
        modules.map((module) => [module.name, module.kind, formatBytes(module.sizeBytes)]),
      ),
    ].join('\n'),
  }
}

function bundleBytes(bundle: Bundle): number {
  return bundle.modules.reduce((sum, module) => sum + module.body.byteLength, 0)
}
