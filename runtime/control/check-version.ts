/**
 * What a version must be before anything of it is started or stored. Names are checked here, once, because they
 * become paths in the instance and keys of `env`; sizes are those of the stored blobs, not those the client claims.
 */
import { IsolaError } from '../../sdk/model/errors.ts'
import { BUNDLE_LIMITS, INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import {
  blobsOf,
  DEFAULT_CONTAINER_SETTINGS,
  servicesOf,
  type ContainerContent,
  type Head,
  type VersionContent,
  type VersionLimits,
  type WorkerContent,
} from '../../sdk/model/function.ts'
import type {
  ContainerVersionRequest,
  VersionRequest,
  WorkerVersionRequest,
} from '../../sdk/model/control.ts'
import { inTurns } from '../registry/in-turns.ts'
import { checkBindings } from './check-bindings.ts'
import { checkAssetsConfig } from './check-assets.ts'
import { checkContainerSettings, checkContainerSource, checkEnvironmentNames } from './check-container.ts'
import type { Registry } from '../registry/registry.ts'

/** The content of the version asked for, in its one normal form. Throws `invalid_argument`, `bundle_too_large`. */
export function checkVersion(request: VersionRequest): VersionContent {
  checkBindings(request)
  return request.kind === 'worker' ? checkWorker(request) : checkContainer(request)
}

function checkWorker(request: WorkerVersionRequest): WorkerContent {
  checkModules(request)
  checkCompatibility(request)
  return {
    kind: request.kind,
    mainModule: request.mainModule,
    ...(request.format === 'service-worker' && { format: request.format }),
    ...(request.assets !== undefined && { assets: checkAssetsConfig(request.assets, request.mainModule) }),
    modules: request.modules
      .toSorted(byName)
      .map(({ name, kind, sha256, sizeBytes }) => ({ name, kind, sha256, sizeBytes })),
    bindings: request.bindings.toSorted(byName),
    compatibilityDate: request.compatibilityDate,
    compatibilityFlags: [...new Set(request.compatibilityFlags)].sort((a, b) => (a < b ? -1 : 1)),
    limits: checkLimits(request.limits ?? {}),
  }
}

function checkContainer(request: ContainerVersionRequest): ContainerContent {
  const { kind, protocol, bindings } = request
  const settings = { ...DEFAULT_CONTAINER_SETTINGS, ...request.settings }
  checkContainerSettings(settings)
  checkEnvironmentNames(bindings)
  return {
    kind,
    protocol,
    source: checkContainerSource(request),
    bindings: bindings.toSorted(byName),
    limits: checkLimits(request.limits ?? {}),
    settings,
  }
}

/**
 * A version may call itself, and what is deployed already: a misspelt name would else be found by its first caller.
 * Throws `function_not_found`.
 */
export function checkServices(head: Head, functionName: string, content: VersionContent): void {
  const missing = servicesOf(content).find(
    (name) => name !== functionName && !Object.hasOwn(head.functions, name),
  )
  if (missing === undefined) return
  const binding = content.bindings.find((each) => each.type === 'service' && each.functionName === missing)
  throw new IsolaError(
    'function_not_found',
    `the service binding "${binding?.name}" names the function "${missing}", which is not deployed: deploy that first, or correct the name`,
    { details: { binding: binding?.name, functionName: missing } },
  )
}

/** Throws `blob_missing` that lists the digests, and `invalid_argument` where a size is not the claimed one. */
export async function checkBlobs(registry: Registry, content: VersionContent): Promise<void> {
  const blobs = blobsOf(content)
  const sizes = await inTurns(blobs, ({ sha256 }) => registry.blobSizeBytes(sha256))
  const missing = blobs.filter((_, index) => sizes[index] === undefined).map(({ sha256 }) => sha256)
  if (missing.length > 0) {
    throw new IsolaError(
      'blob_missing',
      `${missing.length} of ${blobs.length} modules are not uploaded (first: ${missing[0]}): upload them (PUT /v1/blobs/<sha256>), then try again`,
      { details: { missing: [...new Set(missing)] } },
    )
  }
  blobs.forEach((blob, index) => {
    if (sizes[index] === blob.sizeBytes) return
    const what =
      'name' in blob
        ? `module "${String(blob.name)}"`
        : content.kind === 'worker'
          ? 'the manifest of the static files'
          : 'the archive'
    refuse(
      `${what} is said to have ${blob.sizeBytes} bytes but its blob has ${sizes[index]}: send the size of the uploaded bytes`,
    )
  })
}

function byName(a: { readonly name: string }, b: { readonly name: string }): number {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0
}

function refuse(message: string): never {
  throw new IsolaError('invalid_argument', message)
}

function checkModules(request: WorkerVersionRequest): void {
  const { modules, mainModule } = request
  if (modules.length > BUNDLE_LIMITS.modulesCountMax) {
    tooLarge(`${modules.length} modules, more than the ${BUNDLE_LIMITS.modulesCountMax}`)
  }
  const names = new Set<string>()
  let totalBytes = 0
  for (const module of modules) {
    const problem = moduleNameProblem(module.name)
    if (problem !== undefined) {
      refuse(
        `module name ${JSON.stringify(module.name.slice(0, 100))} ${problem}: use a relative path with "/", e.g. "lib/greet.js"`,
      )
    }
    if (names.has(module.name)) refuse(`module "${module.name}" is there twice: send each name once`)
    names.add(module.name)
    totalBytes += module.sizeBytes
  }
  if (totalBytes > BUNDLE_LIMITS.modulesBytesMax) {
    tooLarge(`${totalBytes} bytes of modules, more than the ${BUNDLE_LIMITS.modulesBytesMax}`)
  }
  if (request.assets !== undefined && mainModule === '' && modules.length === 0) return
  const main = modules.find((module) => module.name === mainModule)
  if (main === undefined) {
    refuse(
      `main module ${JSON.stringify(mainModule.slice(0, 100))} is not among the ${modules.length} modules: name one of them`,
    )
  }
  if (main.kind === 'esm' || (main.kind === 'cjs' && request.format === 'service-worker')) return
  const needed =
    request.format === 'service-worker'
      ? 'code that registers listeners, of kind "cjs" or "esm"'
      : 'an "esm" module with a default export'
  refuse(`main module "${mainModule}" is of kind "${main.kind}": it must be ${needed}`)
}

function tooLarge(what: string): never {
  throw new IsolaError(
    'bundle_too_large',
    `the version has ${what} it may have: leave out what it does not need, or keep large data outside`,
  )
}

function moduleNameProblem(name: string): string | undefined {
  if (name === '') return 'is empty'
  if (Buffer.byteLength(name) > BUNDLE_LIMITS.moduleNameBytesMax) {
    return `has more than ${BUNDLE_LIMITS.moduleNameBytesMax} bytes`
  }
  if (!name.isWellFormed()) return 'is not well-formed Unicode'
  if (name.startsWith('/')) return 'is absolute'
  // eslint-disable-next-line no-control-regex -- control characters are what it looks for
  if (/[\u0000-\u001f\u007f\\]/.test(name)) return 'has a control character or a backslash'
  if (/^[a-z][a-z0-9+.-]*:/i.test(name)) return 'begins like a URL, which workerd keeps for its own modules'
  for (const segment of name.split('/')) {
    if (segment === '' || segment === '.' || segment === '..') return `has the segment "${segment}"`
  }
  return undefined
}

function checkCompatibility(request: WorkerVersionRequest): void {
  const { compatibilityDate: date, compatibilityFlags: flags } = request
  const isDate =
    /^\d{4}-\d{2}-\d{2}$/.test(date) &&
    !Number.isNaN(Date.parse(date)) &&
    new Date(date).toISOString().startsWith(date)
  if (!isDate)
    refuse(`compatibility date ${JSON.stringify(date.slice(0, 40))} is no date: write it as "2026-11-01"`)
  for (const flag of flags) {
    if (/^[a-z0-9_]{1,100}$/.test(flag)) continue
    refuse(
      `compatibility flag ${JSON.stringify(flag.slice(0, 110))} is not usable: flags are like "nodejs_compat"`,
    )
  }
}

/** Only what was asked for: the rest is the fleet's to say. */
function checkLimits({ cpuMs, memoryMib }: Partial<VersionLimits>): Partial<VersionLimits> {
  const { cpuMsMax, memoryMibMin, memoryMibMax } = INSTANCE_LIMITS
  if (cpuMs !== undefined && (!Number.isInteger(cpuMs) || cpuMs < 1 || cpuMs > cpuMsMax)) {
    refuse(`limit cpuMs is ${cpuMs}: give a whole number from 1 to ${cpuMsMax}`)
  }
  if (
    memoryMib !== undefined &&
    (!Number.isInteger(memoryMib) || memoryMib < memoryMibMin || memoryMib > memoryMibMax)
  ) {
    refuse(`limit memoryMib is ${memoryMib}: give a whole number from ${memoryMibMin} to ${memoryMibMax}`)
  }
  return { ...(cpuMs !== undefined && { cpuMs }), ...(memoryMib !== undefined && { memoryMib }) }
}
