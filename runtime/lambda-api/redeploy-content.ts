import type { Hosting } from '../../sdk/model/control.ts'
import type { ContainerContent, FunctionRecord } from '../../sdk/model/function.ts'
import { deploy } from '../control/deploy.ts'
import type { Call } from './call.ts'
import type { LambdaFunction } from './lambda-function.ts'
import { versionRequest } from './version-content.ts'

/** Puts changed content into service, where the function is. Throws what `deploy` throws. */
export async function redeployContent(
  call: Call,
  fn: LambdaFunction,
  content: ContainerContent,
): Promise<void> {
  const request = versionRequest(content, fn.lambda.description)
  await deploy(call.ports, fn.record.name, { ...request, ...hostingOf(fn.record) })
}

/** As it is: no change of content moves a function. */
function hostingOf(record: FunctionRecord): Hosting {
  const { routes, baseDomainHost, previewHosts } = record
  return {
    routes: routes.filter(({ source }) => source === 'config').map(({ pattern }) => ({ pattern })),
    baseDomainHost,
    previewHosts,
  }
}
