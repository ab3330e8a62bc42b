import { TAIL_HEADER } from '../../pool/inner-door.ts'
import { INSTANCE_HEADERS } from '../../pool/driver.ts'
import { redactHeader, redactUrl } from './redact.ts'
import type { TracedRequestEvent, TracedTailEvent } from './trace-event.ts'

/** What the head of a request says, as the instance got it. */
export interface TracedRequest {
  readonly method: string
  readonly url: string
  /** Lower-case names; of several values those of one name are joined by ", ". */
  readonly headers: ReadonlyMap<string, string>
  /** Absent: another function of the node called, or isola itself. */
  readonly clientIp: string | undefined
  /** Set where it carried trace events to a `tail` handler: whose. */
  readonly delivered: readonly string[] | undefined
}

/** `text`: request line and header lines, as the router wrote them. */
export function readTracedRequest(text: string): TracedRequest {
  const [requestLine = '', ...lines] = text.split('\r\n')
  const [method = '', target = '/'] = requestLine.split(' ')
  const headers = new Map<string, string>()
  let proto = 'http'
  let delivered: readonly string[] | undefined
  for (const line of lines) {
    const colon = line.indexOf(':')
    if (colon === -1) continue
    const name = line.slice(0, colon).toLowerCase()
    const value = line.slice(colon + 1).trim()
    if (name === INSTANCE_HEADERS.proto) proto = value
    if (name === TAIL_HEADER.scripts) delivered = value.split(',')
    // What processes of the node say to each other is nothing that the function was sent.
    if (name.startsWith('isola-')) continue
    const before = headers.get(name)
    headers.set(name, before === undefined ? value : `${before}, ${value}`)
  }
  return {
    method,
    url: `${proto}://${headers.get('host') ?? ''}${target}`,
    headers,
    clientIp: headers.get('cf-connecting-ip'),
    delivered,
  }
}

export function requestEvent({ method, url, headers }: TracedRequest, status: number): TracedRequestEvent {
  return {
    request: {
      url: redactUrl(url),
      method,
      headers: Object.fromEntries([...headers].map(([name, value]) => [name, redactHeader(name, value)])),
      cf: {},
    },
    response: { status },
  }
}

export function tailEvent(scripts: readonly string[]): TracedTailEvent {
  return { consumedEvents: scripts.map((scriptName) => ({ scriptName })) }
}
