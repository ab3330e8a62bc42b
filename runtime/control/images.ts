/**
 * Images on their way to the node. What the builder or the registry says streams to the client as it comes. What fails
 * before the first word is answered as every error is; after it the status is said, and the error is the last line.
 * Nothing is held back for a slow client beyond a bound: then older lines go, and a line in their place says so.
 */
import type { ImageEvent, ImageSummary, PullRequest } from '../../sdk/model/control.ts'
import { IsolaError, isIsolaError, type ErrorBody } from '../../sdk/model/errors.ts'
import { CONTAINER_LIMITS, CONTROL_LIMITS, ENGINE_LIMITS } from '../../sdk/model/limits.ts'
import { errorResponse } from './error-response.ts'
import type { ControlPorts, ImagePort, ImageReporting } from './ports.ts'

export interface ImageStreamOptions {
  readonly requestId: string
  /** Hears what the client only sees as `internal`. */
  onFault(error: unknown): void
  /** @default CONTROL_LIMITS.logHeartbeatMs */
  readonly heartbeatMs?: number
}

/** Throws `bad_request`, `body_too_large`, `invalid_argument`, `engine_unavailable`, `build_failed`. */
export function buildImage(
  ports: ControlPorts,
  request: Request,
  options: ImageStreamOptions,
): Promise<ReadableStream<Uint8Array>> {
  const images = imagesOf(ports)
  const dockerfile = new URL(request.url).searchParams.get('dockerfile') ?? undefined
  if (dockerfile !== undefined) checkDockerfile(dockerfile)
  const tar = bodyOf(request)
  return streamImage(request, options, (reporting) =>
    images.build({ tar, ...(dockerfile !== undefined && { dockerfile }), ...reporting }),
  )
}

/** Throws as `buildImage`, and `image_unusable`. */
export function loadImage(
  ports: ControlPorts,
  request: Request,
  options: ImageStreamOptions,
): Promise<ReadableStream<Uint8Array>> {
  const images = imagesOf(ports)
  const tar = bodyOf(request)
  return streamImage(request, options, (reporting) => images.load({ tar, ...reporting }))
}

/** Throws `image_not_found`, `image_unusable`, `engine_unavailable`. */
export function pullImage(
  ports: ControlPorts,
  request: Request,
  options: ImageStreamOptions & { readonly pull: PullRequest },
): Promise<ReadableStream<Uint8Array>> {
  const images = imagesOf(ports)
  return streamImage(request, options, (reporting) => images.pull({ ...options.pull, ...reporting }))
}

function imagesOf({ images }: ControlPorts): ImagePort {
  if (images !== undefined) return images
  throw new IsolaError('engine_unavailable', 'this node runs no containers: start it with a container engine')
}

function checkDockerfile(path: string): void {
  const isInside = path !== '' && !path.startsWith('/') && !path.split('/').includes('..')
  if (isInside && path.length <= DOCKERFILE_LENGTH_MAX) return
  throw new IsolaError(
    'invalid_argument',
    `dockerfile ${JSON.stringify(path.slice(0, 100))} is not usable: give its path inside of the context, e.g. "docker/Dockerfile"`,
  )
}

const DOCKERFILE_LENGTH_MAX = 1_024

function bodyOf(request: Request): AsyncIterable<Uint8Array> {
  const declaredBytes = Number(request.headers.get('content-length') ?? '0')
  if (declaredBytes > CONTAINER_LIMITS.imageBytesMax) {
    throw new IsolaError(
      'body_too_large',
      `the request body has ${declaredBytes} bytes, and ${CONTAINER_LIMITS.imageBytesMax} is the most: leave out what the image does not need`,
    )
  }
  return readWhole((request.body ?? []) as AsyncIterable<Uint8Array>)
}

async function* readWhole(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* body
  } catch (cause) {
    throw new IsolaError('bad_request', 'the request body ended early: send it again', { cause })
  }
}

/** Resolves at the first word, at the end, or when the client has waited long enough for a sign of life. */
async function streamImage(
  request: Request,
  options: ImageStreamOptions,
  work: (reporting: ImageReporting) => Promise<ImageSummary>,
): Promise<ReadableStream<Uint8Array>> {
  const queue = createEventQueue()
  const leaving = new AbortController()
  const signal = AbortSignal.any([request.signal, leaving.signal])
  const begun = Promise.withResolvers<void>()
  let hasBegun = false
  const begin = (): void => {
    hasBegun = true
    begun.resolve()
  }
  const heartbeat = setInterval(() => {
    queue.beat()
    begin()
  }, options.heartbeatMs ?? CONTROL_LIMITS.logHeartbeatMs)
  heartbeat.unref()
  const onText = (text: string): void => {
    queue.push({ type: 'log', text })
    begin()
  }
  work({ onText, signal })
    .then((image) => {
      queue.push({ type: 'image', image })
      begin()
    })
    .catch(async (error: unknown) => {
      // What breaks off because who asked is gone, is no fault.
      const told = signal.aborted ? clientGone(error) : error
      if (!hasBegun) return begun.reject(told)
      if (!isIsolaError(told) || told.code === 'internal') options.onFault(told)
      const body = (await errorResponse(told, options.requestId).json()) as ErrorBody
      queue.push({ type: 'error', error: body.error })
    })
    .finally(() => {
      clearInterval(heartbeat)
      queue.end()
    })
  await begun.promise
  return queue.stream(() => leaving.abort())
}

function clientGone(cause: unknown): IsolaError {
  return new IsolaError('bad_request', 'the client went away before the image was there', { cause })
}

interface EventQueue {
  push(event: ImageEvent): void
  /** An empty line, where nothing else waits. */
  beat(): void
  end(): void
  stream(onCancel: () => void): ReadableStream<Uint8Array>
}

function createEventQueue(): EventQueue {
  let lines: string[] = []
  let waitingBytes = 0
  let dropped = 0
  let isEnded = false
  let wake = (): void => undefined
  const take = (): string => {
    const notice: ImageEvent = {
      type: 'log',
      text: `(${dropped} lines were dropped here: they came faster than they were read)\n`,
    }
    const text = [...(dropped > 0 ? [JSON.stringify(notice)] : []), ...lines]
      .map((line) => `${line}\n`)
      .join('')
    lines = []
    waitingBytes = 0
    dropped = 0
    return text
  }
  return {
    push(event) {
      const line = JSON.stringify(event)
      lines.push(line)
      waitingBytes += line.length
      if (waitingBytes > ENGINE_LIMITS.textBytesBufferedMax) {
        const older = Math.floor(lines.length / 2)
        dropped += older
        lines = lines.slice(older)
        waitingBytes = lines.reduce((total, each) => total + each.length, 0)
      }
      wake()
    },
    beat() {
      if (lines.length > 0) return
      lines.push('')
      wake()
    },
    end() {
      isEnded = true
      wake()
    },
    stream(onCancel) {
      const encoder = new TextEncoder()
      return new ReadableStream(
        {
          async pull(controller) {
            if (lines.length === 0 && !isEnded) await new Promise<void>((resolve) => (wake = resolve))
            if (lines.length > 0) controller.enqueue(encoder.encode(take()))
            else if (isEnded) controller.close()
          },
          cancel: onCancel,
        },
        // Nothing ahead of the reader: what waits, waits in the queue, where it is bounded.
        { highWaterMark: 0 },
      )
    },
  }
}
