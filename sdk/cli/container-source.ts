import { createReadStream } from 'node:fs'
import { stripVTControlCharacters } from 'node:util'
import type { Archive } from '../../bundler/archive.ts'
import type { DockerfileContext } from '../../bundler/dockerfile-context.ts'
import type { ControlClient } from '../client/client.ts'
import type { RunConfig, SourceConfig } from '../config/function-config.ts'
import type { PullRequest } from '../model/control.ts'
import { IsolaError } from '../model/errors.ts'
import type { ContainerRuntime, ContainerSource } from '../model/function.ts'
import { CONTAINER_LIMITS } from '../model/limits.ts'
import type { CommandContext } from './command.ts'
import { formatBytes } from './output.ts'
import { readCredentials } from './registry-credentials.ts'
import { shortImageId } from './version-content.ts'

/** All that can be done for a container function without a node. */
export type PreparedSource =
  | {
      readonly type: 'code'
      readonly runtime: ContainerRuntime
      readonly handler: string
      readonly archive: Archive
    }
  | { readonly type: 'build'; readonly context: DockerfileContext; readonly run: RunConfig }
  | { readonly type: 'load'; readonly path: string; readonly sizeBytes: number; readonly run: RunConfig }
  | { readonly type: 'pull'; readonly pull: PullRequest; readonly run: RunConfig }

/** Packs, installs, lists and reads. Throws `build_failed`, `bundle_too_large`. */
export async function prepareSource(source: SourceConfig, context: CommandContext): Promise<PreparedSource> {
  const onProgress = (line: string): void => context.output.progress(terminalText(line))
  switch (source.type) {
    case 'directory': {
      const { packHandlerDirectory } = await import('../../bundler/handler-directory.ts')
      const { runtime, handler } = source
      return {
        type: 'code',
        runtime,
        handler,
        archive: await packHandlerDirectory({ ...source, onProgress }),
      }
    }
    case 'archive': {
      const { readArchive } = await import('../../bundler/archive.ts')
      const { runtime, handler } = source
      return { type: 'code', runtime, handler, archive: await readArchive(source.path) }
    }
    case 'dockerfile': {
      const { findDockerfileContext } = await import('../../bundler/dockerfile-context.ts')
      return { type: 'build', context: await findDockerfileContext(source), run: runOf(source) }
    }
    case 'image-file': {
      const sizeBytes = await imageFileBytes(source.path)
      return { type: 'load', path: source.path, sizeBytes, run: runOf(source) }
    }
    case 'image-reference': {
      const { reference } = source
      const pull = { reference, ...(await readCredentials(context, reference)) }
      return { type: 'pull', pull, run: runOf(source) }
    }
  }
}

/** Brings it to the node, the build log as progress, and says what it is there. */
export async function sendSource(
  prepared: PreparedSource,
  client: ControlClient,
  { output }: Pick<CommandContext, 'output'>,
): Promise<ContainerSource> {
  if (prepared.type === 'code') {
    const { type, runtime, handler } = prepared
    return { type, runtime, handler, archive: await client.uploadArchive(prepared.archive.bytes) }
  }
  const log = createLineLog((line) => output.progress(terminalText(line)))
  const image = await sendImage(prepared, client, log.write).finally(log.end)
  output.progress(
    `image ${shortImageId(image.imageId)}, ${formatBytes(image.sizeBytes)}, ${image.architecture}`,
  )
  return { type: 'image', imageId: image.imageId, ...prepared.run }
}

async function sendImage(
  prepared: Exclude<PreparedSource, { type: 'code' }>,
  client: ControlClient,
  onLog: (text: string) => void,
): ReturnType<ControlClient['loadImage']> {
  if (prepared.type === 'pull') return client.pullImage(prepared.pull, { onLog })
  if (prepared.type === 'load') return client.loadImage(createReadStream(prepared.path), { onLog })
  const { packDockerfileContext } = await import('../../bundler/dockerfile-context.ts')
  const { context } = prepared
  return client.buildImage(packDockerfileContext(context), { dockerfile: context.dockerfile, onLog })
}

/** For `--dry-run`, without secrets. */
export function describeSource(prepared: PreparedSource): {
  readonly document: Readonly<Record<string, unknown>>
  readonly text: string
} {
  switch (prepared.type) {
    case 'code': {
      const { runtime, handler, archive } = prepared
      const { sha256, files, bytes } = archive
      const count = files.length === 0 ? '' : `, ${files.length} ${files.length === 1 ? 'file' : 'files'}`
      return {
        document: { type: 'code', runtime, handler, archive: { sha256, sizeBytes: bytes.byteLength }, files },
        text: `${runtime} ${handler}, archive ${sha256.slice(0, 16)}, ${formatBytes(bytes.byteLength)}${count}`,
      }
    }
    case 'build': {
      const { dockerfile, entries, totalBytes } = prepared.context
      const filesCount = entries.filter(({ type }) => type !== 'directory').length
      return {
        document: { type: 'dockerfile', dockerfile, filesCount, totalBytes, ...prepared.run },
        text: `${dockerfile}, ${filesCount} files, ${formatBytes(totalBytes)} to build from`,
      }
    }
    case 'load': {
      const { path, sizeBytes } = prepared
      return {
        document: { type: 'image-file', path, sizeBytes, ...prepared.run },
        text: `image file ${path}, ${formatBytes(sizeBytes)}`,
      }
    }
    case 'pull': {
      const { reference, username } = prepared.pull
      const who = username === undefined ? '' : ` as ${username}`
      return {
        document: {
          type: 'image-reference',
          reference,
          ...(username !== undefined && { username }),
          ...prepared.run,
        },
        text: `image ${reference}, to be pulled${who}`,
      }
    }
  }
}

async function imageFileBytes(path: string): Promise<number> {
  const { readableBytes } = await import('../../bundler/archive.ts')
  const size = await readableBytes(path)
  if (size === 0)
    throw new IsolaError('build_failed', `${path} is empty: make it anew, e.g. with "docker save"`)
  if (size <= CONTAINER_LIMITS.imageBytesMax) return size
  throw new IsolaError(
    'bundle_too_large',
    `${path} has ${size} bytes, more than the ${CONTAINER_LIMITS.imageBytesMax} of an image: make it smaller`,
  )
}

function runOf({ entryPoint, command, workingDirectory }: RunConfig): RunConfig {
  return {
    ...(entryPoint !== undefined && { entryPoint }),
    ...(command !== undefined && { command }),
    ...(workingDirectory !== undefined && { workingDirectory }),
  }
}

/** Builders write a line in pieces, and one over another where it is about progress: the last of those is said. */
function createLineLog(say: (line: string) => void): { write(text: string): void; end(): void } {
  let rest = ''
  const sayLine = (line: string): void => {
    const shown = line.replace(/\r+$/, '').split('\r').at(-1) ?? ''
    if (shown.trim() !== '') say(shown)
  }
  return {
    write(text) {
      const lines = (rest + text).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) sayLine(line)
    },
    end() {
      sayLine(rest)
      rest = ''
    },
  }
}

/** What a builder writes must not steer the terminal that shows it. */
function terminalText(line: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what it looks for
  return stripVTControlCharacters(line).replaceAll(/[\u0000-\u0008\u000a-\u001f\u007f-\u009f]/g, '')
}
