import type { ControlPorts } from '../../runtime/control/ports.ts'
import type { SecretBox } from '../../runtime/registry/secret-box.ts'

/** What wrangler's API needs of its node, beside what the operations of the control API need. */
export interface WranglerApiPorts extends ControlPorts {
  /** The one account there is; what `CLOUDFLARE_ACCOUNT_ID` must be. */
  readonly accountId: string
  /** What clients must send as `authorization: Bearer <token>`. */
  readonly token: string
  readonly secrets: SecretBox
  /** Absent: nobody can tail functions of this node. */
  readonly tails?: TailPort
  /** Hears every fault that a client only sees as one. @default writes it to stderr */
  readonly onFault?: (error: unknown, requestId: string) => void
}

export const ACCOUNT_ID = 'isola'

/** Sessions in which somebody watches a function's requests as they come. */
export interface TailPort {
  /** Throws `conflict` where there are as many as there may be. */
  open(functionName: string, filter: TailFilter): TailSession & { readonly path: string }
  list(functionName: string): readonly TailSession[]
  /** False where there is none of the id. */
  close(functionName: string, id: string): boolean
}

export interface TailSession {
  readonly id: string
  readonly expiresAt: string
}

/** All that are set must hold of an event. Those that ask for something of a request hold of no other event. */
export interface TailFilter {
  /** Above 0, at most 1. */
  readonly samplingRate?: number
  readonly outcomes?: readonly string[]
  /** In capitals. */
  readonly methods?: readonly string[]
  /** Each must be there; with `text`, have that in its value. */
  readonly headers?: readonly { readonly name: string; readonly text?: string }[]
  /** `self`: that of who watches. */
  readonly clientIps?: readonly string[]
  /** In what was logged or thrown. */
  readonly text?: string
  readonly versionId?: string
}
