import type { IncomingMessage, ServerResponse } from 'node:http'
import type { RouterLimits } from '../../sdk/model/limits.ts'
import type { PooledInstance } from '../../runtime/pool/pool.ts'
import type { Client } from '../client.ts'
import type { RequestHead } from '../request-head.ts'
import type { RequestRecord } from '../request-log.ts'
import type { ServedVersion } from '../served-version.ts'
import type { Exchange } from './exchange.ts'
import type { InstanceLinks } from './instance-link.ts'
import type { TunnelEnd } from './tunnel.ts'

/** What exchanges need of the router around them. */
export interface ExchangePorts {
  readonly limits: RouterLimits
  readonly links: InstanceLinks
  /** No new requests are wanted on the connections there are. */
  readonly draining: boolean
  /** Finds a version (`assign`), lets the request in (`enter`), finds a slot, and calls `start`, or `enqueue`, or `refuse`. */
  place(exchange: Exchange): void
  /** Nobody listens on the instance's socket. */
  onUnreachable(instance: PooledInstance, message: string): void
  /** `served`: `undefined` where no version was found for it. */
  onFinish(record: RequestRecord, served: ServedVersion | undefined, head: RequestHead): void
}

export interface ExchangeOptions {
  readonly ports: ExchangePorts
  readonly client: Client
  readonly head: RequestHead
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** The client's end of the tunnel to be, for a WebSocket handshake. */
  readonly tunnel: TunnelEnd | undefined
}
