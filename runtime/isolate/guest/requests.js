/** Which request the running code belongs to, across every await. */
import { AsyncLocalStorage } from 'node:async_hooks'

/** Holds the request's id. */
export const requests = new AsyncLocalStorage()

/** Holds how many calls of functions by functions led to the request, as text; nothing where none did. */
export const depths = new AsyncLocalStorage()
