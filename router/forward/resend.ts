/**
 * A failed attempt is followed by another only if the function cannot have run. Instances are behind unix sockets,
 * and there the kernel tells: a connection that was never accepted, or whose peer closed with our bytes unread, ends
 * in ECONNREFUSED, EPIPE or ECONNRESET; one whose peer had read everything ends without an error. So
 *  - no connection: never sent;
 *  - EPIPE at the first write: nothing arrived;
 *  - ECONNRESET before any answer to a request without a body: its head, one write, was not read to the end.
 * Everything else may have run.
 */
export interface Loss {
  /** Of the error that ended the connection, if there was one. */
  readonly code: string | undefined
  readonly connected: boolean
  /** `headArrived`: the head of a request with a body was written without an error. */
  readonly headArrived: boolean
  readonly body: { readonly canRestart: boolean } | undefined
}

/** Only to be asked before the first byte of a response. */
export function canResend({ code, connected, body, headArrived }: Loss): boolean {
  if (body !== undefined && !body.canRestart) return false
  if (!connected) return true
  if (body === undefined) return code === 'EPIPE' || code === 'ECONNRESET'
  return code === 'EPIPE' && !headArrived
}
