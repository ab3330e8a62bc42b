import { isIP } from 'node:net'
import { DEFAULT_FUNCTION_LIMITS, type EgressLimit } from '../../sdk/model/function-limits.ts'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { EgressRules } from '../pool/wire.ts'
import { addressKey } from './addresses.ts'
import { placeOf } from './destination.ts'
import { withoutTrailingDot } from './target.ts'

/** What one function's own requests are limited to, compiled. */
export interface FunctionRule {
  /** That one request of the function may cause. */
  readonly subrequests: number
  readonly reach: 'public' | 'none' | HostList
}

interface HostList {
  /** Names in lower case, addresses as `addressKey` spells them. */
  readonly exact: ReadonlySet<string>
  /** With the dot they begin with. */
  readonly suffixes: readonly string[]
  /** As the operator wrote it. */
  readonly text: string
}

const HOSTS_SHOWN_MAX = 5

export const DEFAULT_RULE = compileRule(DEFAULT_FUNCTION_LIMITS)

export function compileRule({ subrequests, egress }: EgressRules['limits'][string]): FunctionRule {
  return { subrequests, reach: typeof egress === 'string' ? egress : compileHosts(egress) }
}

/**
 * Judges the host as the function wrote it, before any lookup; the addresses behind it are judged where the connection is
 * made, list or not. Throws `egress_refused`.
 */
export function checkReach(
  { reach }: FunctionRule,
  { hostname, port, functionName }: { hostname: string; port: number; functionName: string },
): void {
  if (reach === 'public') return
  const host = withoutTrailingDot(hostname)
  if (reach !== 'none' && isListed(reach, host)) return
  const refused = `connection to ${placeOf(hostname, port)} refused: `
  throw new IsolaError(
    'egress_refused',
    reach === 'none'
      ? `${refused}the egress limit of function "${functionName}" is "none", so it may reach no host: ` +
          `if it should, change that with: isola limits ${functionName} --egress public (or a list of hosts)`
      : `${refused}"${host}" is not among the hosts that function "${functionName}" may reach (${reach.text}): ` +
          `if it should be, name it too with: isola limits ${functionName} --egress HOST,…`,
    { details: { host, port, egress: reach === 'none' ? reach : reach.text } },
  )
}

function isListed({ exact, suffixes }: HostList, host: string): boolean {
  if (exact.has(host)) return true
  // A name never has a colon: `::ffff:192.0.2.1` and its like are known by the one spelling of their address.
  if (host.includes(':')) return exact.has(addressKey(host) ?? host)
  // An address has no subdomains, and ".example.com" no host in front of it.
  if (isIP(host) !== 0) return false
  return suffixes.some((suffix) => host.length > suffix.length && host.endsWith(suffix))
}

function compileHosts(hosts: Exclude<EgressLimit, string>): HostList {
  const exact = new Set<string>()
  const suffixes: string[] = []
  for (const host of hosts) {
    if (host.startsWith('*.')) suffixes.push(host.slice(1).toLowerCase())
    else exact.add(canonicalHost(host))
  }
  const more = hosts.length - HOSTS_SHOWN_MAX
  const text = hosts.slice(0, HOSTS_SHOWN_MAX).join(', ') + (more > 0 ? ` and ${more} more` : '')
  return { exact, suffixes, text }
}

/** As a target's `hostname` spells it. What cannot be read matches nothing. */
function canonicalHost(text: string): string {
  const bare = text.replace(/^\[|\]$/g, '')
  const bracketed = bare.includes(':') ? `[${bare}]` : bare
  if (!URL.canParse(`http://${bracketed}/`)) return bare
  const host = withoutTrailingDot(new URL(`http://${bracketed}/`).hostname.replace(/^\[|\]$/g, ''))
  return addressKey(host) ?? host
}
