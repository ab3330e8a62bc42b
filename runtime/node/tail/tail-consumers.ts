/**
 * Trace events for functions that consume them: the `tail` handler of a consumer is called through the router's inner
 * door, like any other request, with what came together in a moment. Best effort: what a consumer does not take is
 * dropped, and its log says so. One call at a time for each consumer.
 */
import { request } from 'node:http'
import type { Head } from '../../../sdk/model/function.ts'
import { TAIL_LIMITS } from '../../../sdk/model/limits.ts'
import { INNER_DOOR_HEADERS, TAIL_HEADER } from '../../pool/inner-door.ts'
import type { TraceEvent } from './trace-event.ts'

/** Function → those that consume its events, of the functions there are. As wrangler's settings name them. */
export function consumersOf(head: Head): ReadonlyMap<string, readonly string[]> {
  const consumers = new Map<string, readonly string[]>()
  for (const { name, wrangler } of Object.values(head.functions)) {
    const named = (wrangler?.settings.tailConsumers ?? []).flatMap((consumer) => {
      const service = (consumer as { readonly service?: unknown } | null)?.service
      return typeof service === 'string' && Object.hasOwn(head.functions, service) ? [service] : []
    })
    const chosen = [...new Set(named)].slice(0, TAIL_LIMITS.consumersPerFunctionMax)
    if (chosen.length > 0) consumers.set(name, chosen)
  }
  return consumers
}

export interface TailDelivery {
  add(consumer: string, event: TraceEvent): void
  close(): void
}

export interface TailDeliveryOptions {
  /** Of the router's inner door. */
  readonly socketPath: string
  /** For the consumer's log. */
  onFailure(consumer: string, message: string): void
}

/** As it will be sent: so it is known how much waits. */
interface WaitingEvent {
  readonly scriptName: string
  readonly json: string
}

interface Waiting {
  readonly events: WaitingEvent[]
  /** Of their JSON. */
  length: number
  dropped: number
}

export function createTailDelivery(options: TailDeliveryOptions): TailDelivery {
  const waitingByConsumer = new Map<string, Waiting>()
  const closed = new AbortController()
  const send = async (consumer: string, waiting: Waiting): Promise<void> => {
    const events = takeBatch(waiting)
    const { dropped } = waiting
    waiting.dropped = 0
    const lost = await post({ ...options, consumer, events, signal: closed.signal })
    if (lost !== undefined)
      options.onFailure(consumer, `${events.length} trace events did not reach it: ${lost}`)
    if (dropped > 0)
      options.onFailure(consumer, `${dropped} trace events were dropped: they come faster than it takes them`)
    if (waiting.events.length === 0) waitingByConsumer.delete(consumer)
    else later(consumer, waiting)
  }
  const later = (consumer: string, waiting: Waiting): void => {
    setTimeout(() => {
      if (!closed.signal.aborted) void send(consumer, waiting)
    }, TAIL_LIMITS.consumerBatchMs).unref()
  }
  return {
    add(consumer, event) {
      let waiting = waitingByConsumer.get(consumer)
      if (waiting === undefined) {
        waiting = { events: [], length: 0, dropped: 0 }
        waitingByConsumer.set(consumer, waiting)
        later(consumer, waiting)
      }
      const json = JSON.stringify(event)
      const { consumerQueueEventsMax, consumerQueueTextMax } = TAIL_LIMITS
      const isFull =
        waiting.events.length >= consumerQueueEventsMax || waiting.length + json.length > consumerQueueTextMax
      if (isFull) {
        waiting.dropped++
        return
      }
      waiting.events.push({ scriptName: event.scriptName, json })
      waiting.length += json.length
    },
    close() {
      closed.abort()
      waitingByConsumer.clear()
    },
  }
}

/** One event at least. */
function takeBatch(waiting: Waiting): readonly WaitingEvent[] {
  const { consumerBatchEventsMax, consumerBatchTextMax } = TAIL_LIMITS
  let length = 0
  const end = waiting.events.findIndex(({ json }, index) => {
    length += json.length
    return index > 0 && (index >= consumerBatchEventsMax || length > consumerBatchTextMax)
  })
  const batch = waiting.events.splice(0, end === -1 ? waiting.events.length : end)
  for (const { json } of batch) waiting.length -= json.length
  return batch
}

/** Why it failed; `undefined`: it has the events. */
function post(call: {
  readonly socketPath: string
  readonly consumer: string
  readonly events: readonly WaitingEvent[]
  readonly signal: AbortSignal
}): Promise<string | undefined> {
  const { socketPath, consumer, events, signal } = call
  const body = Buffer.from(`[${events.map(({ json }) => json).join(',')}]`)
  return new Promise((resolve) => {
    const outgoing = request(
      {
        socketPath,
        method: 'POST',
        path: '/',
        agent: false,
        signal,
        headers: {
          host: 'tail',
          'content-type': 'application/json',
          'content-length': body.length,
          [INNER_DOOR_HEADERS.functionName]: consumer,
          [TAIL_HEADER.name]: TAIL_HEADER.events,
          [TAIL_HEADER.scripts]: [...new Set(events.map(({ scriptName }) => scriptName))].join(','),
        },
      },
      (answer) => {
        const { statusCode = 0, headers } = answer
        answer.resume()
        answer.on('error', () => undefined)
        const error = headers[INNER_DOOR_HEADERS.error]
        resolve(
          statusCode < 300
            ? undefined
            : `it answered ${statusCode}${error === undefined ? '' : ` ${String(error)}`}`,
        )
      },
    )
    outgoing.setTimeout(TAIL_LIMITS.consumerTimeoutMs, () => outgoing.destroy(new Error('it took too long')))
    outgoing.on('error', (error) => resolve(error.message))
    outgoing.end(body)
  })
}
