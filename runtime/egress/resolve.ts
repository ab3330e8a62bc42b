import type { LookupAddress } from 'node:dns'
import { isIP } from 'node:net'
import { IsolaError } from '../../sdk/model/errors.ts'

/** All addresses of a name, as `dns.promises.lookup(name, { all: true })`. */
export type Lookup = (hostname: string) => Promise<readonly LookupAddress[]>

export interface ResolverOptions {
  readonly lookup: Lookup
  readonly timeoutMs: number
  readonly concurrencyMax: number
}

/**
 * Names to addresses for one instance. `getaddrinfo` blocks a thread of a small pool and cannot be cancelled, so the
 * lookups of an instance are bounded: names that never resolve must not use up the threads of all others. A lookup
 * given up keeps its place until it really ends.
 */
export class Resolver {
  readonly #options: ResolverOptions
  readonly #waiting: (() => void)[] = []
  #running = 0

  constructor(options: ResolverOptions) {
    this.#options = options
  }

  /** At least one address. Throws `egress_failed`. */
  async resolve(hostname: string): Promise<readonly LookupAddress[]> {
    const family = isIP(hostname)
    if (family !== 0) return [{ address: hostname, family }]
    // RFC 6761, section 6.3: always the loopback. Many resolvers know "localhost" and not the names below it.
    if (hostname.endsWith('.localhost')) return [{ address: '127.0.0.1', family: 4 }]
    const { timeoutMs } = this.#options
    let timer: NodeJS.Timeout | undefined
    const timeout = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer in ${timeoutMs} ms`)), timeoutMs)
    })
    try {
      const addresses = await Promise.race([this.#lookup(hostname), timeout])
      if (addresses.length === 0) throw new Error('no address')
      return addresses
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      throw new IsolaError(
        'egress_failed',
        `the name "${hostname}" could not be resolved (${code ?? message}): check its spelling, and the DNS of the node`,
        { cause: error },
      )
    } finally {
      clearTimeout(timer)
    }
  }

  async #lookup(hostname: string): Promise<readonly LookupAddress[]> {
    if (this.#running < this.#options.concurrencyMax) this.#running += 1
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
    try {
      return await this.#options.lookup(hostname)
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#running -= 1
      else next()
    }
  }
}
