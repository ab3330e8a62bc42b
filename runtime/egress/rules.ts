import { networkInterfaces } from 'node:os'
import { IsolaError } from '../../sdk/model/errors.ts'
import { parseOrigin, parseRoutePattern, type RoutePattern } from '../../sdk/model/route.ts'
import type { EgressRules } from '../pool/wire.ts'
import { addressKey, isLoopback, parseCidr, type AddressPolicy, type Cidr } from './addresses.ts'
import { compileRule, DEFAULT_RULE, type FunctionRule } from './function-rule.ts'

/** `EgressRules`, compiled once per message and swapped whole. */
export interface Rules {
  addressPolicy(): AddressPolicy
  /** Where the operator sends this function's requests for that host and path. */
  originFor(functionName: string, host: string, path: string): Origin | undefined
  ruleFor(functionName: string): FunctionRule
  /** The function that a script of a dispatch namespace is; `undefined` where there is none. */
  scriptFunction(namespace: string, script: string): string | undefined
}

export interface Origin {
  readonly secure: boolean
  /** Without brackets. */
  readonly hostname: string
  readonly port: number
}

interface OriginRoute {
  readonly pattern: RoutePattern
  readonly origin: Origin
}

export interface RulesOptions {
  readonly rules: EgressRules
  /** Addresses of this machine's interfaces, fresh enough. */
  readonly interfaceAddresses: () => readonly string[]
  /** A rule that cannot be read is left out, which never opens anything, and told here. */
  readonly onProblem: (message: string) => void
}

export function compileRules({ rules, interfaceAddresses, onProblem }: RulesOptions): Rules {
  const attempt = <T>(make: () => T): T | undefined => {
    try {
      return make()
    } catch (error) {
      onProblem(error instanceof IsolaError ? error.message : String(error))
      return undefined
    }
  }
  const allowed = rules.allowedCidrs
    .map((text) => attempt(() => parseCidr(text)))
    .filter((cidr): cidr is Cidr => cidr !== undefined)
  const routesByFunction = new Map<string, readonly OriginRoute[]>()
  for (const [functionName, entries] of Object.entries(rules.origins)) {
    const routes = entries
      .map(({ pattern, origin }) =>
        attempt(() => ({ pattern: parseRoutePattern(pattern), origin: compileOrigin(origin) })),
      )
      .filter((route): route is OriginRoute => route !== undefined)
    routesByFunction.set(functionName, routes.sort(moreSpecificFirst))
  }
  const ruleByFunction = new Map(
    Object.entries(rules.limits).map(([functionName, limits]) => [functionName, compileRule(limits)]),
  )
  return {
    addressPolicy: () => ({ allowed, own: ownKeys([...rules.ownAddresses, ...interfaceAddresses()]) }),
    originFor(functionName, host, path) {
      return routesByFunction.get(functionName)?.find(({ pattern }) => matches(pattern, host, path))?.origin
    },
    ruleFor: (functionName) => ruleByFunction.get(functionName) ?? DEFAULT_RULE,
    scriptFunction: (namespace, script) => ownValue(ownValue(rules.dispatch, namespace), script),
  }
}

/** Names come from functions: one that every object has is not there. */
function ownValue<T>(record: Readonly<Record<string, T>> | undefined, key: string): T | undefined {
  return record !== undefined && Object.hasOwn(record, key) ? record[key] : undefined
}

/** Reads the interfaces at most once per `maxAgeMs`: addresses come and go, but not between two requests. */
export function createInterfaceAddresses(maxAgeMs: number): () => readonly string[] {
  let addresses: readonly string[] = []
  let readAtMs = -Infinity
  return () => {
    const nowMs = performance.now()
    if (nowMs - readAtMs > maxAgeMs) {
      addresses = Object.values(networkInterfaces()).flatMap((list) =>
        (list ?? []).map(({ address }) => address),
      )
      readAtMs = nowMs
    }
    return addresses
  }
}

function ownKeys(addresses: readonly string[]): ReadonlySet<string> {
  const keys = addresses.filter((address) => !isLoopback(address)).map(addressKey)
  return new Set(keys.filter((key) => key !== undefined))
}

function compileOrigin(text: string): Origin {
  const url = new URL(parseOrigin(text))
  const secure = url.protocol === 'https:'
  const port = url.port === '' ? (secure ? 443 : 80) : Number(url.port)
  return { secure, port, hostname: url.hostname.replace(/^\[|\]$/g, '') }
}

/** As the router orders routes: exact host, then the longer wildcard; exact path, then the longer prefix. */
function moreSpecificFirst({ pattern: a }: OriginRoute, { pattern: b }: OriginRoute): number {
  return (
    Number(a.wildcardHost) - Number(b.wildcardHost) ||
    b.host.length - a.host.length ||
    Number(a.prefixPath) - Number(b.prefixPath) ||
    b.path.length - a.path.length
  )
}

function matches(pattern: RoutePattern, host: string, path: string): boolean {
  const hostMatches = pattern.wildcardHost ? host.endsWith(`.${pattern.host}`) : host === pattern.host
  return hostMatches && (pattern.prefixPath ? path.startsWith(pattern.path) : path === pattern.path)
}
