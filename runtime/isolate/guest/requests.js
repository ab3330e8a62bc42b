/** Which request the running code belongs to, across every await. */
import { AsyncLocalStorage } from 'node:async_hooks'

/** Holds the request's id. */
export const requests = new AsyncLocalStorage()
