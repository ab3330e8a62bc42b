/** What was thrown, as the Runtime API and the log have it. */
import { types } from 'node:util'

/* oxlint-disable typescript/no-unnecessary-type-conversion -- an error's own fields can be of any type */
/** `{ errorType, errorMessage, trace }`. Whatever is thrown has such a form, also what hides its properties. */
export function describeError(thrown) {
  try {
    if (isError(thrown)) {
      return {
        errorType: headerText(String(thrown.name || 'Error')),
        errorMessage: String(thrown.message),
        trace: String(thrown.stack ?? '').split('\n'),
      }
    }
    return { errorType: typeof thrown, errorMessage: String(thrown), trace: [] }
  } catch {
    return { errorType: 'Runtime.Unknown', errorMessage: 'what was thrown cannot be read', trace: [] }
  }
}

/** An error of the runtime itself, by AWS's name for it. */
export function runtimeError(name, message, cause) {
  const error = new Error(message, cause === undefined ? undefined : { cause })
  error.name = name
  // The function's lines say more than those of this client.
  error.stack = cause?.stack ?? `${name}: ${message}`
  return error
}

/** Errors of other realms (`node:vm`) are no instance of this one's. */
function isError(thrown) {
  return types.isNativeError(thrown) || thrown instanceof Error
}

/** It goes into a header. */
function headerText(name) {
  return name.replace(/[^\x20-\x7e]/g, '?').slice(0, 256)
}
