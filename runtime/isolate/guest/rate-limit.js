/**
 * The object behind a rate-limit binding. The proxy of the node counts, for all instances together. Where nobody counts, the
 * answer is yes: a limit is there to protect a function, and not to stop it.
 */
const NativeTypeError = TypeError

/** Of a key, in UTF-16 units. Also the longest that the proxy takes, percent-encoded. */
const KEY_LENGTH_MAX = 1_024

class RateLimit {
  #limiter

  constructor(limiter) {
    this.#limiter = limiter
  }

  async limit(options) {
    const key = options?.key
    if (typeof key !== 'string') {
      throw new NativeTypeError('limit() needs a key: write limit({ key: "…" }), with a string')
    }
    if (key.length > KEY_LENGTH_MAX) {
      throw new NativeTypeError(
        `the key of limit() has ${key.length} characters, and ${KEY_LENGTH_MAX} are the most: use a shorter one, e.g. a hash`,
      )
    }
    const path = encodeURIComponent(key.toWellFormed())
    let status
    try {
      status = (await this.#limiter.fetch(`http://isola/${path}`)).status
    } catch {
      status = undefined
    }
    return { success: status !== 429 }
  }
}

// oxlint-disable-next-line import/no-default-export -- workerd takes the default export for what makes the binding
export default ({ limiter }) => new RateLimit(limiter)
