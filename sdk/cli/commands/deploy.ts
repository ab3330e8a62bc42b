import type { Bundle } from '../../model/bundle.ts'
import { type BuiltAssets, type BuiltFunction, buildWorker, SOURCE_FLAGS } from '../build-function.ts'
import { type Command, type CommandContext, type CommandResult, NODE_FLAGS } from '../command.ts'
import { deployContainer } from '../deploy-container.ts'
import { formatDeployResult } from '../deploy-result.ts'
import { connectToNode, findNode } from '../find-node.ts'
import { imageFunction, loadFunction } from '../load-function.ts'
import { formatBytes, formatTable } from '../output.ts'
import { usageError } from '../parse-arguments.ts'
import { checkCredentialFlags } from '../registry-credentials.ts'

/** A deploy over a slow line shows that it moves. */
const PROGRESS_EVERY_MS = 1_000

export const deployCommand: Command = {
  name: 'deploy',
  summary: 'bundle, pack or build a function and make it live',
  usage: '[DIR | FILE]',
  words: [0, 1],
  flags: {
    ...SOURCE_FLAGS,
    image: {
      type: 'text',
      value: 'REF|FILE',
      help: 'an image instead of a directory: a tarball, or a reference to pull; needs --name',
    },
    protocol: { type: 'text', value: 'NAME', help: 'of --image: http (default) or lambda' },
    port: { type: 'text', value: 'PORT', help: 'of --image: where it listens (default 8080)' },
    username: {
      type: 'text',
      value: 'NAME',
      help: 'for a pull, instead of what Docker has for that registry',
    },
    'password-stdin': { type: 'boolean', help: 'read the password of --username from stdin' },
    message: { type: 'text', short: 'm', value: 'TEXT', help: 'why, kept with the version' },
    'dry-run': { type: 'boolean', help: 'bundle, pack and check, but send nothing' },
    ...NODE_FLAGS,
  },
  notes: [
    'DIR holds isola.jsonc, or wrangler.jsonc, wrangler.json or wrangler.toml (default: the working directory); FILE is the',
    'main module. isola.jsonc can also name a handler, a Dockerfile or an image: a container function.',
    'A version that does not start is refused with its message, and the old one keeps serving.',
  ].join('\n'),
  examples: [
    'isola deploy',
    'isola deploy examples/hello --name greeter',
    'isola deploy --env staging --dry-run',
    'isola deploy --image registry.example/shop:1 --name shop --port 3000',
  ],
  async run(context) {
    const dryRun = context.flags.has('dry-run')
    const image = context.flags.text('image')
    checkCredentialFlags(context)
    if (image === undefined) checkImageFlags(context)
    // Before the work of bundling: without a node it would be for nothing.
    if (!dryRun) await findNode(context)
    const config = await (image === undefined ? loadFunction(context) : imageFunction(context, image))
    if (config.kind === 'container') {
      for (const warning of config.warnings) context.output.warn(warning)
      return deployContainer(context, config, { dryRun })
    }
    const built = await buildWorker(config)
    for (const warning of built.warnings) context.output.warn(warning)
    return dryRun ? describe(built) : await deploy(context, built)
  },
}

/** A configuration says these itself. */
function checkImageFlags({ flags }: CommandContext): void {
  for (const flag of ['protocol', 'port']) {
    if (flags.has(flag)) throw usageError(`--${flag} goes with --image: write it into the configuration`)
  }
}

async function deploy(
  context: CommandContext,
  { bundle, assets, config, warnings }: BuiltFunction,
): Promise<CommandResult> {
  const { output } = context
  const client = await connectToNode(context)
  const message = context.flags.text('message')
  output.progress(
    `${config.functionName}: ${bundle.modules.length} modules, ${formatBytes(bundleBytes(bundle))}${assetsText(assets)}`,
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
    ...(assets !== undefined && { staticFiles: assets }),
    ...(message !== undefined && { message }),
    onProgress({ sentBytes, totalBytes }) {
      if (performance.now() - shownAtMs < PROGRESS_EVERY_MS) return
      shownAtMs = performance.now()
      output.progress(`sent ${formatBytes(sentBytes)} of ${formatBytes(totalBytes)}`)
    },
  })
  return { document: { ...result, warnings }, text: formatDeployResult(result) }
}

function describe({ bundle, assets, config, warnings }: BuiltFunction): CommandResult {
  const modules = bundle.modules.map(({ name, kind, body }) => ({ name, kind, sizeBytes: body.byteLength }))
  return {
    document: {
      functionName: config.functionName,
      digest: bundle.digest,
      mainModule: bundle.mainModule,
      ...(bundle.format !== undefined && { format: bundle.format }),
      modules,
      bindings: config.bindings,
      compatibilityDate: config.compatibilityDate,
      compatibilityFlags: config.compatibilityFlags,
      ...(assets !== undefined && { assets: describeAssets(assets) }),
      routes: config.routes,
      warnings,
    },
    text: [
      `${config.functionName}: bundle ${bundle.digest.slice(0, 16)}${assetsText(assets)}, nothing was sent`,
      formatTable(
        ['MODULE', 'KIND', 'SIZE'],
        modules.map((module) => [module.name, module.kind, formatBytes(module.sizeBytes)]),
      ),
    ].join('\n'),
  }
}

function describeAssets({ files, config }: BuiltAssets): object {
  const listed = [...files].map(([path, { sizeBytes, contentType }]) => ({
    path,
    sizeBytes,
    ...(contentType !== undefined && { contentType }),
  }))
  return { files: listed, config }
}

function assetsText(assets: BuiltAssets | undefined): string {
  if (assets === undefined) return ''
  const bytes = [...assets.files.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  return `, ${assets.files.size} static files, ${formatBytes(bytes)}`
}

function bundleBytes(bundle: Bundle): number {
  return bundle.modules.reduce((sum, module) => sum + module.body.byteLength, 0)
}
