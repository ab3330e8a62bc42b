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
 * given up keeps its place until it really ends; one that has not begun when it is given up never begins.
 */
export class Resolver {
  readonly #options: ResolverOptions
  readonly #waiting = new Set<() => void>()
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
    const givenUp = new AbortController()
    let timer: NodeJS.Timeout | undefined
    const timeout = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        givenUp.abort()
        reject(new Error(`no answer in ${timeoutMs} ms`))
      }, timeoutMs)
    })
    try {
      const addresses = await Promise.race([this.#lookup(hostname, givenUp.signal), timeout])
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

  async #lookup(hostname: string, givenUp: AbortSignal): Promise<readonly LookupAddress[]> {
    if (this.#running < this.#options.concurrencyMax) this.#running += 1
    else await this.#turn(givenUp)
    try {
      return await this.#options.lookup(hostname)
    } finally {
      const [next] = this.#waiting
      if (next === undefined) this.#running -= 1
      else {
        this.#waiting.delete(next)
        next()
      }
    }
  }

  /** Settles when a place is handed over; never for one that was given up before. */
  #turn(givenUp: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.add(resolve)
      givenUp.addEventListener('abort', () => this.#waiting.delete(resolve), { once: true })
    })
  }
}
