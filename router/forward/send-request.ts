import type { RequestHead } from '../request-head.ts'
import type { InstanceConnection } from './connection.ts'
import { uncork, type RequestBody } from './request-body.ts'

/** Writes a request, and its body as it comes. `onHeadArrived`: the head of one with a body was written without an error. */
export function sendRequest(
  connection: InstanceConnection,
  request: {
    readonly head: RequestHead
    readonly body: RequestBody | undefined
    onHeadArrived(): void
  },
  /** Header lines for the instance alone. */
  moreLines: string,
): void {
  const { socket } = connection
  const { head, body } = request
  const { contentLength } = head
  const text = moreLines === '' ? head.text : head.text + moreLines
  if (body === undefined) {
    if (head.rpc) socket.write(`${text}\r\n`, 'latin1')
    else if (head.upgrade) socket.write(`${text}upgrade: websocket\r\nconnection: Upgrade\r\n\r\n`, 'latin1')
    else
      socket.write(contentLength === undefined ? `${text}\r\n` : `${text}content-length: 0\r\n\r\n`, 'latin1')
    connection.requestWritten = true
    return
  }
  const framing =
    contentLength === undefined ? 'transfer-encoding: chunked' : `content-length: ${contentLength}`
  // Corked for one tick: a body that came with its head leaves with its head.
  socket.cork()
  socket.write(`${text}${framing}\r\n\r\n`, 'latin1', (error) => {
    if (error === null || error === undefined) request.onHeadArrived()
  })
  body.sendTo(connection)
  process.nextTick(uncork, socket)
}
