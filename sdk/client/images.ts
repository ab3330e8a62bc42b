import type { Readable } from 'node:stream'
import type { ImageEvent, ImageSummary, PullRequest } from '../model/control.ts'
import { IsolaError } from '../model/errors.ts'
import { unreachable, type Call, type Send } from './call.ts'
import { readJsonLines } from './json-lines.ts'

export interface ImageOptions {
  /** What the builder or the registry says, as text for a terminal. */
  readonly onLog?: (text: string) => void
}

/** Images on their way to the node. Each resolves when the node has it, and throws what the node says of it. */
export interface ImageCalls {
  /** `context` is a tar stream; `dockerfile` a path in it. */
  buildImage(
    context: Readable,
    options: ImageOptions & { readonly dockerfile: string },
  ): Promise<ImageSummary>
  /** A tarball of `docker save`, or an OCI image layout, gzipped or not. */
  loadImage(tarball: Readable, options?: ImageOptions): Promise<ImageSummary>
  pullImage(request: PullRequest, options?: ImageOptions): Promise<ImageSummary>
}

export function imageCalls({
  send,
  controlUrl,
}: {
  readonly send: Send
  readonly controlUrl: string
}): ImageCalls {
  const run = async (
    how: 'build' | 'load' | 'pull',
    { onLog, ...call }: Pick<Call, 'body' | 'query'> & ImageOptions,
  ): Promise<ImageSummary> => {
    const response = await send({ method: 'POST', path: ['images', how], patient: true, ...call })
    for await (const event of readJsonLines<ImageEvent>(response, { controlUrl })) {
      if (event.type === 'log') onLog?.(event.text)
      if (event.type === 'image') return event.image
      if (event.type === 'error') {
        const { code, message, details, requestId } = event.error
        throw new IsolaError(code, message, { details: { ...details, requestId } })
      }
    }
    throw unreachable(controlUrl, new Error('the answer ended early'))
  }
  return {
    buildImage: (context, { dockerfile, ...options }) =>
      run('build', { body: context, query: { dockerfile }, ...options }),
    loadImage: (tarball, options) => run('load', { body: tarball, ...options }),
    pullImage: (request, options) => run('pull', { body: request, ...options }),
  }
}
