/**
 * How a rate-limit binding asks: a request to the egress socket, which the proxy answers itself. `GET /<key>` with the key
 * percent-encoded; 204 is yes and 429 no.
 */
export const RATE_LIMIT_HEADERS = {
  /**
   * Set by the configuration of the process, and removed from whatever else it sends: namespace, limit and period in s, each
   * percent-encoded, with blanks between.
   */
  limit: 'isola-rate-limit',
} as const
