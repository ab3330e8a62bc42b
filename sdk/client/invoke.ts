import { readBytes, type Send } from './call.ts'

export interface InvokeRequest {
  /** JSON: the event. */
  readonly payload: Uint8Array | string
  /** `async`: kept, and worked on later. @default 'sync' */
  readonly type?: 'sync' | 'async'
}

export interface InvokeResult {
  /** What the function returned, JSON; its error where it failed; of `async` what the node says. */
  readonly body: Uint8Array
  /** Why it failed, e.g. `Unhandled`. Absent: it did not. */
  readonly functionError?: string
  readonly requestId?: string
}

/** Throws what the node refuses with. That the function failed is a result. */
export async function invoke(
  { send, controlUrl }: { readonly send: Send; readonly controlUrl: string },
  functionName: string,
  { payload, type = 'sync' }: InvokeRequest,
): Promise<InvokeResult> {
  const response = await send({
    method: 'POST',
    path: ['functions', functionName, 'invoke'],
    headers: { 'isola-invoke-type': type, 'content-type': 'application/json' },
    body: typeof payload === 'string' ? new TextEncoder().encode(payload) : payload,
    patient: true,
  })
  const functionError = response.headers.get('isola-function-error')
  const requestId = response.headers.get('isola-request-id') ?? response.headers.get('x-request-id')
  return {
    body: await readBytes(controlUrl, response),
    ...(functionError !== null && { functionError }),
    ...(requestId !== null && { requestId }),
  }
}
