/**
 * Secrets of a function. They are bindings of its versions, so that a version never changes under its instances: whoever
 * sets one makes a version, which differs in nothing else and serves at once. What was closed is told to nobody again.
 */
import { IsolaError } from '../../sdk/model/errors.ts'
import type { DeployResult, Hosting, VersionRequest } from '../../sdk/model/control.ts'
import {
  isWorkerVersion,
  type Binding,
  type EnvironmentBinding,
  type FunctionRecord,
  type SecretBinding,
  type Version,
} from '../../sdk/model/function.ts'
import { BUNDLE_LIMITS, CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import { isStillNewest, type AmendRecord } from './create-version.ts'
import { deploy } from './deploy.ts'
import { findFunction } from './find-function.ts'
import type { ControlPorts } from './ports.ts'

export interface SecretChange {
  readonly functionName: string
  readonly name: string
  /** Absent: it is deleted. */
  readonly text: string | undefined
}

/**
 * Throws `function_not_found`, `not_found` for a secret to delete that is not there, `conflict` where the newest version is
 * not the one in service, and what `deploy` throws.
 */
export async function setSecret(ports: ControlPorts, change: SecretChange): Promise<DeployResult> {
  const { functionName, name, text } = change
  const record = findFunction(await ports.registry.refresh(), functionName)
  const version = await deployedVersion(ports, record)
  const bindings = version.content.bindings.filter((binding) => binding.name !== name)
  const existing = version.content.bindings.find((binding) => binding.name === name)
  if (existing !== undefined && existing.type !== 'secret') {
    throw new IsolaError(
      'conflict',
      `"${functionName}" has a binding "${name}" of type "${existing.type}": give the secret another name, or remove that from the configuration and deploy`,
    )
  }
  if (text === undefined && existing === undefined) {
    throw new IsolaError(
      'not_found',
      `"${functionName}" has no secret ${JSON.stringify(name.slice(0, 100))}: "isola secret list ${functionName}" shows those it has`,
    )
  }
  const added = text === undefined ? [] : [sealed(ports, { functionName, name, text })]
  const message = text === undefined ? `secret ${name} deleted` : `secret ${name} set`
  const request = withBindings(version, { message, bindings: [...bindings, ...added] })
  return await deploy(ports, functionName, { ...request, ...hostingOf(record) }, stillThat(record))
}

/** Names only, sorted. */
export async function listSecrets(
  ports: ControlPorts,
  functionName: string,
): Promise<readonly { readonly name: string }[]> {
  const record = findFunction(ports.registry.head, functionName)
  return (await secretsOf(ports, record))
    .map(({ name }) => ({ name }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

/**
 * A configuration knows no secrets: those of the newest version go on to the next, unless it gives their name to another.
 * `make` is done again where a newer version came meanwhile: a secret that was set then would else be lost. It throws
 * what `make` throws, and `conflict` where that does not come to an end.
 */
export async function withKeptSecrets<Request extends VersionRequest, Result>(
  ports: ControlPorts,
  options: {
    readonly functionName: string
    readonly request: Request
    readonly make: (request: Request, amend: AmendRecord) => Promise<Result>
  },
): Promise<Result> {
  const { functionName, request, make } = options
  for (let attempt = 1; attempt <= CONTROL_LIMITS.keptSecretsAttemptsMax; attempt++) {
    const { functions } = await ports.registry.refresh()
    const record = Object.hasOwn(functions, functionName) ? functions[functionName] : undefined
    const amend: AmendRecord = (planned, versionId) => {
      if (isStillNewest(record, planned, versionId)) return planned
      throw new NewerVersion()
    }
    try {
      return await make(await keepSecrets(ports, record, request), amend)
    } catch (error) {
      if (!(error instanceof NewerVersion)) throw error
    }
  }
  throw new IsolaError(
    'conflict',
    `"${functionName}" got ${CONTROL_LIMITS.keptSecretsAttemptsMax} versions of others while this one was made: try again`,
  )
}

class NewerVersion extends Error {}

async function keepSecrets<Request extends VersionRequest>(
  ports: ControlPorts,
  record: FunctionRecord | undefined,
  request: Request,
): Promise<Request> {
  if (record === undefined || record.kind !== request.kind) return request
  const names = new Set(request.bindings.map(({ name }) => name))
  const kept = (await secretsOf(ports, record)).filter(({ name }) => !names.has(name))
  return kept.length === 0 ? request : { ...request, bindings: [...request.bindings, ...kept] }
}

async function secretsOf(ports: ControlPorts, record: FunctionRecord): Promise<readonly SecretBinding[]> {
  const [newest = record.deployment.shares[0]?.versionId] = record.recentVersionIds
  const version = newest === undefined ? undefined : await ports.registry.getVersion(record.name, newest)
  const bindings: readonly Binding[] = version?.content.bindings ?? []
  return bindings.filter((binding) => binding.type === 'secret')
}

/** The one that serves all, where there is no newer one. */
async function deployedVersion(ports: ControlPorts, record: FunctionRecord): Promise<Version> {
  const { name, deployment, recentVersionIds } = record
  const [share, ...others] = deployment.shares
  const newest = recentVersionIds[0]
  if (share === undefined || others.length > 0 || (newest !== undefined && newest !== share.versionId)) {
    throw new IsolaError(
      'conflict',
      `the newest version of "${name}" does not serve alone, and a change of a secret would put it into service: give it all traffic first (isola traffic ${name} ${newest ?? 'VERSION'}=100)`,
    )
  }
  const version = await ports.registry.getVersion(name, share.versionId)
  if (version !== undefined) return version
  throw new IsolaError(
    'version_not_found',
    `version ${share.versionId} of "${name}" is gone: deploy it again`,
  )
}

function sealed(
  { secrets }: ControlPorts,
  secret: { readonly functionName: string; readonly name: string; readonly text: string },
): SecretBinding {
  if (secrets === undefined) throw new IsolaError('internal', 'this node has no key to close secrets with')
  const sizeBytes = Buffer.byteLength(secret.text)
  if (sizeBytes > BUNDLE_LIMITS.varBytesMax) {
    throw new IsolaError(
      'invalid_argument',
      `secret "${secret.name}" has ${sizeBytes} bytes, more than the ${BUNDLE_LIMITS.varBytesMax} it may have: give a shorter one`,
    )
  }
  return { type: 'secret', name: secret.name, sealed: secrets.seal(secret) }
}

function withBindings(
  version: Version,
  { message, bindings }: { readonly message: string; readonly bindings: Version['content']['bindings'] },
): VersionRequest {
  if (isWorkerVersion(version)) return { ...version.content, message, bindings }
  // Those of a container are its own and a secret.
  return { ...version.content, message, bindings: bindings as readonly EnvironmentBinding[] }
}

function hostingOf({ routes, baseDomainHost, previewHosts }: FunctionRecord): Hosting {
  return {
    routes: routes.filter(({ source }) => source === 'config').map(({ pattern }) => ({ pattern })),
    baseDomainHost,
    previewHosts,
  }
}

/** Another deploy may have come first: its code must not go out of service with the old one's secrets. */
function stillThat(before: FunctionRecord): AmendRecord {
  return (planned) => {
    if (planned.deployment.previousId === before.deployment.id) return planned
    throw new IsolaError(
      'conflict',
      `"${before.name}" was deployed while its secret was set: nothing was changed; set it again`,
    )
  }
}
