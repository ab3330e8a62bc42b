/**
 * One call of the control API. What a node refuses is thrown as the same error it gave, with code and details; that
 * nobody answers is `node_unreachable` with what to do. Nothing is repeated here: only the caller knows whether a
 * call that may have worked can be made again.
 */
import { Readable } from 'node:stream'
import { ERRORS, IsolaError, isIsolaError, type ErrorBody } from '../model/errors.ts'
import { patientFetch } from './patient-fetch.ts'

export interface NodeAddress {
  /** `http://host:port` of a node's control API, as "isola up" prints it. */
  readonly controlUrl: string
  readonly token: string
  /** Who changes something, recorded with changes of policy and limits: printable ASCII, e.g. `anna@laptop`. @default `token` */
  readonly actor?: string
}

export interface Call {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** Segments after `/v1/`, or after `/` where `root` says so; each is escaped. */
  readonly path: readonly string[]
  readonly root?: true
  readonly query?: Readonly<Record<string, string>>
  /** Bytes and streams of bytes are sent as they are, anything else as JSON. A stream is always `patient`. */
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
  /** The answer may take its time to begin, and be silent between its parts. */
  readonly patient?: true
  readonly signal?: AbortSignal
}

/** Resolves for every 2xx. Throws the node's error, or `node_unreachable`. */
export type Send = (call: Call) => Promise<Response>

/** Throws `invalid_argument` for an address that is none. */
export function createSend(address: NodeAddress): Send {
  const base = parseControlUrl(address.controlUrl)
  return async ({ method, path, root, query, body, headers: more, patient, signal }) => {
    const segments = root === true ? path : ['v1', ...path]
    const url = new URL(`/${segments.map((segment) => encodeURIComponent(segment)).join('/')}`, base)
    for (const [key, value] of Object.entries(query ?? {})) url.searchParams.set(key, value)
    const isRaw = body instanceof Uint8Array || body instanceof Readable
    const headers = {
      authorization: `Bearer ${address.token}`,
      ...(address.actor !== undefined && { 'isola-actor': address.actor }),
      ...(body !== undefined && {
        'content-type': isRaw ? 'application/octet-stream' : 'application/json',
      }),
      ...more,
    }
    const content = isRaw ? body : body === undefined ? undefined : JSON.stringify(body)
    let response: Response
    try {
      const common = { method, headers, ...(signal && { signal }) }
      response =
        patient === true || content instanceof Readable
          ? await patientFetch(url, { ...common, ...(content !== undefined && { body: content }) })
          : await fetch(url, {
              ...common,
              ...(content !== undefined && { body: content as Uint8Array<ArrayBuffer> | string }),
              // A control API never redirects; following one would send the token elsewhere.
              redirect: 'error',
            })
    } catch (error) {
      // Of a stream that was to be sent.
      if (isIsolaError(error) || signal?.aborted === true) throw error
      throw unreachable(base, error)
    }
    if (response.ok) return response
    throw await readError(base, response)
  }
}

/** Throws `node_unreachable` where the answer breaks off. */
export async function readText(controlUrl: string, response: Response): Promise<string> {
  try {
    return await response.text()
  } catch (error) {
    throw unreachable(controlUrl, error)
  }
}

/** Throws `node_unreachable` where the answer breaks off. */
export async function readBytes(controlUrl: string, response: Response): Promise<Uint8Array> {
  try {
    // Not `bytes()`: in a process that also serves with @hono/node-server, `Response` is one that lacks it.
    return new Uint8Array(await response.arrayBuffer())
  } catch (error) {
    throw unreachable(controlUrl, error)
  }
}

/** The JSON of an answer. Throws `node_unreachable` where it breaks off, or is not JSON. */
export async function readJson<T>(controlUrl: string, response: Response): Promise<T> {
  const text = await readText(controlUrl, response)
  try {
    return JSON.parse(text) as T
  } catch {
    // Somebody else answers at this address: that says more than where the JSON is wrong.
    throw strangeAnswer(controlUrl, response)
  }
}

/** Also for a connection that breaks while an answer is read. */
export function unreachable(controlUrl: string, cause: unknown): IsolaError {
  return new IsolaError(
    'node_unreachable',
    `no isola node answers at ${controlUrl} (${reasonOf(cause)}): start one with "isola up", or name the right one with --control URL or ISOLA_CONTROL_URL`,
    { cause, details: { controlUrl } },
  )
}

export function parseControlUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url !== undefined && (url.protocol === 'http:' || url.protocol === 'https:')) return url.origin
  throw new IsolaError(
    'invalid_argument',
    `control URL ${JSON.stringify(text)} is not usable: write http://host:port, as "isola up" prints it`,
  )
}

async function readError(controlUrl: string, response: Response): Promise<IsolaError> {
  const text = await response.text().catch(() => '')
  const error = errorIn(text)
  if (error !== undefined) {
    return new IsolaError(error.code, error.message, {
      details: { ...error.details, requestId: error.requestId },
    })
  }
  return strangeAnswer(controlUrl, response)
}

function strangeAnswer(controlUrl: string, response: Response): IsolaError {
  return new IsolaError(
    'node_unreachable',
    `${controlUrl} answered ${response.status} but not as an isola control API does: check the address, it is the one "isola up" prints as control`,
    { details: { controlUrl, status: response.status } },
  )
}

function errorIn(text: string): ErrorBody['error'] | undefined {
  let body: Partial<ErrorBody> | null
  try {
    body = JSON.parse(text) as Partial<ErrorBody> | null
  } catch {
    // Not ours: the caller says what answered instead.
    return undefined
  }
  const error = body?.error
  if (typeof error?.message !== 'string' || !Object.hasOwn(ERRORS, error.code)) return undefined
  return error
}

function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  if (!(cause instanceof Error)) return String(cause)
  const code = (cause as NodeJS.ErrnoException).code
  return typeof code === 'string' ? code : cause.message
}
