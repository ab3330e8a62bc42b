import type { DeployRequest, DeployResult } from '../model/control.ts'
import { isIsolaError } from '../model/errors.ts'
import type { ContainerConfig } from '../config/function-config.ts'
import type { CommandContext, CommandResult } from './command.ts'
import { describeSource, prepareSource, sendSource, type PreparedSource } from './container-source.ts'
import { formatDeployResult } from './deploy-result.ts'
import { connectToNode } from './find-node.ts'

export async function deployContainer(
  context: CommandContext,
  config: ContainerConfig,
  options: { readonly dryRun: boolean },
): Promise<CommandResult> {
  const { output } = context
  const prepared = await prepareSource(config.source, context)
  const described = describeSource(prepared)
  if (options.dryRun) {
    const { functionName, protocol, settings, limits, bindings, routes } = config
    const source = described.document
    return {
      document: {
        functionName,
        kind: config.kind,
        protocol,
        source,
        settings,
        limits,
        bindings,
        routes,
        warnings: output.warnings,
      },
      text: `${functionName}: ${described.text}, nothing was sent`,
    }
  }
  output.progress(`${config.functionName}: ${described.text}`)
  const result = await send(context, config, prepared)
  return { document: { ...result, warnings: output.warnings }, text: formatDeployResult(result) }
}

async function send(
  context: CommandContext,
  config: ContainerConfig,
  prepared: PreparedSource,
): Promise<DeployResult> {
  const client = await connectToNode(context)
  const message = context.flags.text('message')
  const attempt = async (): Promise<DeployResult> => {
    const request: DeployRequest = {
      kind: 'container',
      protocol: config.protocol,
      source: await sendSource(prepared, client, context),
      bindings: config.bindings,
      limits: config.limits,
      settings: config.settings,
      routes: config.routes,
      baseDomainHost: config.baseDomainHost,
      previewHosts: config.previewHosts,
      ...(message !== undefined && { message }),
    }
    return client.deploy(config.functionName, request)
  }
  try {
    return await attempt()
  } catch (error) {
    // An old blob that was there when we asked may have been collected before it was named; what is sent now is young.
    if (!isIsolaError(error) || error.code !== 'blob_missing') throw error
    return attempt()
  }
}
