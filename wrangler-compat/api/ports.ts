import type { ControlPorts } from '../../runtime/control/ports.ts'
import type { SecretBox } from '../../runtime/registry/secret-box.ts'

/** What wrangler's API needs of its node, beside what the operations of the control API need. */
export interface WranglerApiPorts extends ControlPorts {
  /** The one account there is; what `CLOUDFLARE_ACCOUNT_ID` must be. */
  readonly accountId: string
  /** What clients must send as `authorization: Bearer <token>`. */
  readonly token: string
  readonly secrets: SecretBox
  /** Hears every fault that a client only sees as one. @default writes it to stderr */
  readonly onFault?: (error: unknown, requestId: string) => void
}

export const ACCOUNT_ID = 'isola'
