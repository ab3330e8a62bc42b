/**
 * What bindings must be, whoever asks for the version. Names are checked here, once, because they become keys of `env`,
 * variables of an environment and globals of a script.
 */
import { IsolaError } from '../../sdk/model/errors.ts'
import { parseFunctionName, type Binding } from '../../sdk/model/function.ts'
import { BUNDLE_LIMITS } from '../../sdk/model/limits.ts'
import type { VersionRequest } from '../../sdk/model/control.ts'

const BINDING_NAME = /^[A-Za-z_$][A-Za-z0-9_$.-]{0,127}$/
const RESERVED_BINDING = /^(?:__proto__|constructor|prototype|__isola.*)$/i
/** What a rate limit may be; the header that it is told in holds both. */
const RATE_LIMIT_MAX = 1_000_000_000
const NAMESPACE_ID = /^[\x20-\x7e]{1,100}$/
/** A closed secret is longer than its text: by a third, and by what it is closed with. */
const SEALED_CHARS_MAX = Math.ceil((BUNDLE_LIMITS.varBytesMax + 64) * (4 / 3)) + 16

/** Throws `invalid_argument`. */
export function checkBindings(request: VersionRequest): void {
  const { bindings } = request
  if (bindings.length > BUNDLE_LIMITS.bindingsCountMax) {
    refuse(
      `${bindings.length} bindings are more than the ${BUNDLE_LIMITS.bindingsCountMax} a version may have`,
    )
  }
  const names = new Set<string>()
  for (const binding of bindings) {
    const { name } = binding
    if (!BINDING_NAME.test(name)) {
      refuse(
        `binding name ${JSON.stringify(name.slice(0, 100))} is not usable: begin with a letter, "_" or "$", and go on with these, digits, "." and "-", 128 at most`,
      )
    }
    if (RESERVED_BINDING.test(name)) refuse(`binding name "${name}" is reserved: choose another`)
    if (names.has(name)) refuse(`binding "${name}" is there twice: give each its own name`)
    names.add(name)
    checkBinding(binding, request)
  }
}

function checkBinding(binding: Binding, request: VersionRequest): void {
  const { name } = binding
  switch (binding.type) {
    case 'service':
      parseFunctionName(binding.functionName)
      return
    case 'text':
      checkSize(name, Buffer.byteLength(binding.text))
      return
    case 'json':
      checkSize(name, Buffer.byteLength(JSON.stringify(binding.json)))
      return
    case 'secret':
      if (/^v1\.[\w-]+$/.test(binding.sealed) && binding.sealed.length <= SEALED_CHARS_MAX) return
      return refuse(`secret "${name}" is not as secrets are kept: set it with "isola secret put"`)
    case 'rate-limit':
      if (!NAMESPACE_ID.test(binding.namespaceId)) {
        refuse(
          `rate limit "${name}" has a namespace id that is not 1 to 100 printable ASCII characters: correct it`,
        )
      }
      if (binding.limit <= RATE_LIMIT_MAX) return
      return refuse(`rate limit "${name}" is ${binding.limit}: give at most ${RATE_LIMIT_MAX}`)
    case 'assets':
      if (request.kind === 'worker' && request.assets !== undefined) return
      return refuse(
        `binding "${name}" is of the version's static files, and it has none: set a directory for them`,
      )
    case 'module':
      return checkModuleBinding(name, binding.module, request)
    default:
  }
}

function checkSize(name: string, sizeBytes: number): void {
  if (sizeBytes <= BUNDLE_LIMITS.varBytesMax) return
  refuse(
    `binding "${name}" has ${sizeBytes} bytes, more than the ${BUNDLE_LIMITS.varBytesMax} a variable may have: put it into a module`,
  )
}

function checkModuleBinding(name: string, moduleName: string, request: VersionRequest): void {
  if (request.kind !== 'worker' || request.format !== 'service-worker') {
    refuse(`binding "${name}" is a module, which only a service worker has as a variable: import it instead`)
  }
  const found = request.modules.find((module) => module.name === moduleName)
  const shown = JSON.stringify(moduleName.slice(0, 100))
  if (found === undefined)
    refuse(`binding "${name}" is the module ${shown}, which is not among the modules: send it`)
  if (found.kind === 'wasm' || found.kind === 'text' || found.kind === 'data') return
  refuse(
    `binding "${name}" is the module ${shown} of kind "${found.kind}": use one of kind wasm, text or data`,
  )
}

function refuse(message: string): never {
  throw new IsolaError('invalid_argument', message)
}
