import { relative, resolve } from 'node:path'
import type { ContainerProtocol, ContainerSettings } from '../model/function.ts'
import { CONTAINER_LIMITS } from '../model/limits.ts'
import type { ConfigPath } from './document.ts'
import { parseDurationMs } from './duration.ts'
import type { ChosenFields } from './environment.ts'
import type { RunConfig, SourceConfig } from './function-config.ts'
import { parseImageSource } from './image-source.ts'
import { showValue, type Problem } from './problem.ts'
import { isFileSync } from './read-document.ts'
import type { ConfigField, ConfigFields, SourceField } from './schema.ts'

interface ReadContainer {
  readonly protocol: ContainerProtocol
  /** Absent where a problem says why. */
  readonly source?: SourceConfig
  readonly settings: Partial<ContainerSettings>
  readonly problems: readonly Problem[]
  readonly warnings: readonly { readonly path: ConfigPath; readonly message: string }[]
}

type Refuse = (field: ConfigField, message: string) => undefined

/** The fields of a container function; that no other fields are there was checked before. */
export function readContainer(
  { fields, pathOf }: ChosenFields<ConfigFields>,
  given: { readonly sourceField: Exclude<SourceField, 'main'>; readonly projectDirectory: string },
): ReadContainer {
  const problems: Problem[] = []
  const warnings: { path: ConfigPath; message: string }[] = []
  const refuse: Refuse = (field, message) => {
    problems.push({ code: 'config_invalid', path: pathOf(field), message })
  }
  const protocol = fields.protocol ?? (given.sourceField === 'handler' ? 'lambda' : 'http')
  if (given.sourceField === 'handler' && protocol === 'http') {
    refuse(
      'protocol',
      'a handler is called by events, not by protocol "http": remove "protocol", or use a "dockerfile" or an "image" that listens on $PORT',
    )
  }
  for (const field of protocol === 'http'
    ? (['timeout', 'responseStreaming'] as const)
    : (['port'] as const)) {
    if (fields[field] === undefined) continue
    warnings.push({ path: pathOf(field), message: `"${field}" has no effect with protocol "${protocol}"` })
  }
  const source = readSource(fields, given, refuse)
  const settings = readSettings(fields, refuse)
  return { protocol, ...(source !== undefined && { source }), settings, problems, warnings }
}

function readSource(
  fields: ConfigFields,
  { sourceField, projectDirectory }: { readonly sourceField: SourceField; readonly projectDirectory: string },
  refuse: Refuse,
): SourceConfig | undefined {
  if (sourceField === 'handler') return readCode(fields, projectDirectory, refuse)
  const { entryPoint, command, workingDirectory } = fields
  if (workingDirectory?.startsWith('/') === false) {
    refuse(
      'workingDirectory',
      `"workingDirectory" is ${showValue(workingDirectory)}: give an absolute path in the image`,
    )
  }
  const run: RunConfig = {
    ...(entryPoint !== undefined && { entryPoint }),
    ...(command !== undefined && { command }),
    ...(workingDirectory !== undefined && { workingDirectory }),
  }
  if (sourceField === 'dockerfile') {
    const path = resolve(
      projectDirectory,
      fields.dockerfile === true ? 'Dockerfile' : (fields.dockerfile ?? ''),
    )
    if (relative(projectDirectory, path).startsWith('..')) {
      return refuse(
        'dockerfile',
        `"dockerfile" is ${path}, which is outside of ${projectDirectory}: only what is in that directory can be built`,
      )
    }
    if (!isFileSync(path))
      return refuse('dockerfile', `"dockerfile" is ${path}, which is not a file: correct the path`)
    return { type: 'dockerfile', directory: projectDirectory, path, ...run }
  }
  const image = parseImageSource(fields.image ?? '', projectDirectory)
  if (image === undefined) {
    return refuse(
      'image',
      `"image" is ${showValue(fields.image)}: give the path of a .tar, .tar.gz or .tgz file, or a reference such as "registry.example/shop:1"`,
    )
  }
  if (image.type === 'image-file' && !isFileSync(image.path)) {
    return refuse('image', `"image" is ${image.path}, which is not a file: correct the path`)
  }
  return { ...image, ...run }
}

const HANDLER = /^[\w./-]{1,128}$/

function readCode(fields: ConfigFields, directory: string, refuse: Refuse): SourceConfig | undefined {
  const { handler = '', runtime, archive, include, exclude } = fields
  if (!HANDLER.test(handler) || !/[^./]\.[^./]/.test(handler) || handler.split(/[./]/).includes('')) {
    refuse(
      'handler',
      `"handler" is ${showValue(handler)}: write it as "file.export", e.g. "index.handler", without the file's ending`,
    )
  }
  if (runtime === undefined) {
    return refuse('runtime', '"runtime" is missing: add "runtime": "nodejs24" or "runtime": "python3"')
  }
  if (archive === undefined) {
    return {
      type: 'directory',
      directory,
      runtime,
      handler,
      ...(include !== undefined && { include }),
      exclude: exclude ?? [],
    }
  }
  for (const field of ['include', 'exclude'] as const) {
    if (fields[field] !== undefined) {
      refuse(field, `"${field}" has no meaning with "archive", which is sent as it is: remove one of them`)
    }
  }
  const path = resolve(directory, archive)
  if (!isFileSync(path)) {
    return refuse('archive', `"archive" is ${path}, which is not a file: correct the path, or make it first`)
  }
  return { type: 'archive', path, runtime, handler }
}

function readSettings(fields: ConfigFields, refuse: Refuse): Partial<ContainerSettings> {
  const { cpus, ephemeralStorageMib, egress, responseStreaming, port, timeout } = fields
  const timeoutMs = typeof timeout === 'string' ? parseDurationMs(timeout) : timeout
  const { timeoutMsMin, timeoutMsMax } = CONTAINER_LIMITS
  if (
    timeout !== undefined &&
    !(Number.isInteger(timeoutMs) && Number(timeoutMs) >= timeoutMsMin && Number(timeoutMs) <= timeoutMsMax)
  ) {
    refuse(
      'timeout',
      `"timeout" is ${showValue(timeout)}: give a time from ${timeoutMsMin / 1000}s to ${timeoutMsMax / 60_000}m, e.g. "30s", or milliseconds as a whole number`,
    )
  }
  return {
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(cpus !== undefined && { cpus }),
    ...(ephemeralStorageMib !== undefined && { ephemeralStorageMib }),
    ...(egress !== undefined && { egress }),
    ...(responseStreaming !== undefined && { responseStreaming }),
    ...(port !== undefined && { port }),
  }
}
