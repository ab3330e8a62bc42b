/**
 * The blanks that a container version can begin as. Code without a network: a runtime with its memory and disk set,
 * which cannot change any more. Everything else: a sandbox, which has a network or has none, and leads to one port.
 *
 *   nodejs24/256/64     sandbox     sandbox-egress     sandbox/3000
 */
import {
  CONTAINER_RUNTIMES,
  DEFAULT_CONTAINER_SETTINGS,
  type ContainerContent,
  type ContainerRuntime,
} from '../../sdk/model/function.ts'

export type BlankClass =
  | {
      readonly type: 'runtime'
      readonly runtime: ContainerRuntime
      readonly memoryMib: number
      readonly ephemeralStorageMib: number
    }
  | { readonly type: 'sandbox'; readonly egress: boolean; readonly port: number }

export function blankClassOf(content: ContainerContent, memoryMib: number): BlankClass {
  const { source, settings, protocol } = content
  if (source.type === 'code' && !settings.egress) {
    const { ephemeralStorageMib } = settings
    return { type: 'runtime', runtime: source.runtime, memoryMib, ephemeralStorageMib }
  }
  // Events need no port: whatever sandbox there is will do.
  const port = protocol === 'http' ? settings.port : DEFAULT_CONTAINER_SETTINGS.port
  return { type: 'sandbox', egress: settings.egress, port }
}

export function nameBlankClass(blankClass: BlankClass): string {
  if (blankClass.type === 'runtime') {
    return `${blankClass.runtime}/${blankClass.memoryMib}/${blankClass.ephemeralStorageMib}`
  }
  const { egress, port } = blankClass
  return `sandbox${egress ? '-egress' : ''}${port === DEFAULT_CONTAINER_SETTINGS.port ? '' : `/${port}`}`
}

/** Undefined for what no container can begin as. */
export function parseBlankClass(name: string): BlankClass | undefined {
  const [first, ...numbers] = name.split('/')
  const [one, two, ...more] = numbers.map(Number)
  const runtime = CONTAINER_RUNTIMES.find((known) => known === first)
  if (runtime !== undefined && isCount(one) && isCount(two) && more.length === 0) {
    return { type: 'runtime', runtime, memoryMib: one, ephemeralStorageMib: two }
  }
  if ((first !== 'sandbox' && first !== 'sandbox-egress') || numbers.length > 1) return undefined
  const port = numbers.length === 0 ? DEFAULT_CONTAINER_SETTINGS.port : one
  return isCount(port) ? { type: 'sandbox', egress: first === 'sandbox-egress', port } : undefined
}

function isCount(number: number | undefined): number is number {
  return Number.isInteger(number) && number! > 0
}
