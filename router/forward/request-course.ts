/** What has become of a request so far, and the record of it in the end. Times are of `performance.now()`. */
import type { ErrorCode } from '../../sdk/model/errors.ts'
import type { RequestHead } from '../request-head.ts'
import type { RequestRecord } from '../request-log.ts'

export class RequestCourse {
  readonly startMs = performance.now()
  /** When it got its last slot; 0 while it has none. */
  placedMs = 0
  /** When it got its first; 0 before. */
  firstPlacedMs = 0
  responseBytes = 0
  cold = false
  instanceId: string | undefined
  error: ErrorCode | undefined

  record(
    head: RequestHead,
    end: Pick<RequestRecord, 'functionName' | 'versionId' | 'requestBytes' | 'clientAborted'> & {
      readonly nowMs: number
      /** 0: none was sent. */
      readonly status: number
    },
  ): RequestRecord {
    const { startMs, placedMs, firstPlacedMs } = this
    const totalMs = end.nowMs - startMs
    return {
      functionName: end.functionName,
      versionId: end.versionId,
      instanceId: this.instanceId,
      requestId: head.requestId,
      endedAtMs: Date.now(),
      method: head.method,
      host: head.host ?? head.hostHeader,
      target: head.target,
      status: end.status === 0 ? CLIENT_CLOSED : end.status,
      totalMs,
      queueMs: firstPlacedMs === 0 ? totalMs : firstPlacedMs - startMs,
      functionMs: placedMs === 0 ? undefined : end.nowMs - placedMs,
      cold: this.cold,
      requestBytes: end.requestBytes,
      responseBytes: this.responseBytes,
      error: this.error,
      clientAborted: end.clientAborted,
    }
  }
}

/** In the log only, as nginx writes it: the client went before there was a status. */
const CLIENT_CLOSED = 499
