import type { IncomingMessage, ServerResponse } from 'node:http'
import { LAMBDA_LIMITS } from '../../sdk/model/limits.ts'

export type CollectedBody =
  | { readonly type: 'whole'; readonly bytes: Buffer }
  /** What still comes of it is being dropped: it can be answered. */
  | { readonly type: 'too-large' }
  /** Its connection closed before its end. */
  | { readonly type: 'broken' }

/** Reads a body into memory. `done` is called once. */
export function collectBody(
  { request, response, bytesMax }: { request: IncomingMessage; response: ServerResponse; bytesMax: number },
  done: (body: CollectedBody) => void,
): void {
  if (Number(request.headers['content-length'] ?? 0) > bytesMax) {
    dropBody(request)
    done({ type: 'too-large' })
    return
  }
  askForBody(request, response)
  const parts: Buffer[] = []
  let bytes = 0
  let isDone = false
  const finish = (body: CollectedBody): void => {
    if (isDone) return
    isDone = true
    done(body)
  }
  const onData = (part: Buffer): void => {
    bytes += part.length
    if (bytes <= bytesMax) {
      parts.push(part)
      return
    }
    parts.length = 0
    request.off('data', onData)
    dropBody(request)
    finish({ type: 'too-large' })
  }
  request.on('data', onData)
  request.on('end', () =>
    finish({ type: 'whole', bytes: parts.length === 1 ? parts[0]! : Buffer.concat(parts) }),
  )
  request.on('error', () => finish({ type: 'broken' }))
  request.on('close', () => finish({ type: 'broken' }))
}

/** A client that asked first is told to send. One that is not told may still send: then it is dropped. */
export function askForBody(request: IncomingMessage, response: ServerResponse): void {
  if (request.headers.expect !== undefined) response.writeContinue()
}

/** Many clients read an answer only when all of their body is sent, so it is read; but not for ever. */
export function dropBody(request: IncomingMessage): void {
  let bytes = 0
  request.on('data', (part: Buffer) => {
    bytes += part.length
    if (bytes > LAMBDA_LIMITS.drainBytesMax) request.destroy()
  })
  request.on('error', () => undefined)
}
