/** What a container function must be, beside what all functions must be. */
import type { ContainerVersionRequest } from '../../sdk/model/control.ts'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { Binding, ContainerSettings, ContainerSource } from '../../sdk/model/function.ts'
import { CONTAINER_LIMITS } from '../../sdk/model/limits.ts'

/** Throws `invalid_argument`. */
export function checkContainerSettings(settings: ContainerSettings): void {
  const { timeoutMsMin, timeoutMsMax, cpusMin, cpusMax, ephemeralStorageMibMin, ephemeralStorageMibMax } =
    CONTAINER_LIMITS
  checkWhole('timeoutMs', settings.timeoutMs, [timeoutMsMin, timeoutMsMax])
  checkWhole('ephemeralStorageMib', settings.ephemeralStorageMib, [
    ephemeralStorageMibMin,
    ephemeralStorageMibMax,
  ])
  checkWhole('port', settings.port, [1, 65_535])
  if (!(settings.cpus >= cpusMin && settings.cpus <= cpusMax)) {
    refuse(`setting cpus is ${settings.cpus}: give a number of cores from ${cpusMin} to ${cpusMax}`)
  }
}

/** In its one normal form. Throws `invalid_argument`. */
export function checkContainerSource({ protocol, source }: ContainerVersionRequest): ContainerSource {
  if (source.type === 'code') {
    if (protocol !== 'lambda') {
      refuse(
        `code on runtime "${source.runtime}" is called by events, not by protocol "${protocol}": use "lambda", or an image that listens on $PORT`,
      )
    }
    checkHandler(source.handler)
    const { type, runtime, handler, archive } = source
    return { type, runtime, handler, archive: { sha256: archive.sha256, sizeBytes: archive.sizeBytes } }
  }
  const { type, imageId, entryPoint, command, workingDirectory } = source
  if (workingDirectory !== undefined && !workingDirectory.startsWith('/')) {
    refuse(`working directory ${JSON.stringify(workingDirectory)} is not absolute: begin it with "/"`)
  }
  return {
    type,
    imageId,
    ...(entryPoint !== undefined && { entryPoint }),
    ...(command !== undefined && { command }),
    ...(workingDirectory !== undefined && { workingDirectory }),
  }
}

const ENVIRONMENT_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/
/** What the platform itself sets, as AWS reserves it. */
const RESERVED_NAME = /^(?:AWS_LAMBDA_.*|_HANDLER|LAMBDA_TASK_ROOT|LAMBDA_RUNTIME_DIR|_X_AMZN_TRACE_ID|PORT)$/

/** Bindings become environment variables. Throws `invalid_argument`. */
export function checkEnvironmentNames(bindings: readonly Binding[]): void {
  for (const { name } of bindings) {
    if (!ENVIRONMENT_NAME.test(name)) {
      refuse(
        `variable ${JSON.stringify(name)} cannot be in an environment: begin with a letter or "_", and go on with these and digits`,
      )
    }
    if (RESERVED_NAME.test(name)) refuse(`variable "${name}" is set by isola itself: choose another name`)
  }
}

const HANDLER = /^[\w./-]{1,128}$/

function checkHandler(handler: string): void {
  if (HANDLER.test(handler) && handler.includes('.') && !handler.includes('..')) return
  refuse(`handler ${JSON.stringify(handler.slice(0, 140))} is not usable: write it as "file.export"`)
}

function checkWhole(name: string, value: number, [least, most]: readonly [number, number]): void {
  if (Number.isInteger(value) && value >= least && value <= most) return
  refuse(`setting ${name} is ${value}: give a whole number from ${least} to ${most}`)
}

function refuse(message: string): never {
  throw new IsolaError('invalid_argument', message)
}
