/**
 * `fetch` for calls whose answer may take an hour to begin, or whose body is a stream that may be answered before its end:
 * Node's own gives up after five silent minutes, and has no option against it.
 */
import { request as requestHttp, type IncomingMessage } from 'node:http'
import { request as requestHttps } from 'node:https'
import { Readable } from 'node:stream'

interface PatientInit {
  readonly method: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: Readable | Uint8Array | string
  readonly signal?: AbortSignal
}

/** Rejects with the body's own error where that fails. Redirects are answers like any other. */
export function patientFetch(url: URL, { method, headers, body, signal }: PatientInit): Promise<Response> {
  return new Promise((resolve, reject) => {
    const request = (url.protocol === 'https:' ? requestHttps : requestHttp)(url, {
      method,
      headers,
      agent: false,
      ...(signal && { signal }),
    })
    request.on('response', (incoming) => {
      const isRefused = (incoming.statusCode ?? 0) >= 400
      // Nobody reads the rest of it there.
      if (isRefused && body instanceof Readable) body.destroy()
      resolve(responseOf(incoming))
    })
    request.on('error', (error) => {
      if (body instanceof Readable) body.destroy()
      reject(error)
    })
    if (body instanceof Readable) {
      body.on('error', (error) => {
        reject(error)
        request.destroy(error)
      })
      body.pipe(request)
    } else request.end(body)
  })
}

function responseOf(incoming: IncomingMessage): Response {
  const status = incoming.statusCode ?? 0
  const headers = new Headers()
  for (const [name, value] of Object.entries(incoming.headers)) {
    if (typeof value === 'string') headers.set(name, value)
  }
  const hasBody = status !== 204 && status !== 304
  if (!hasBody) incoming.resume()
  return new Response(hasBody ? (Readable.toWeb(incoming) as ReadableStream) : null, { status, headers })
}
