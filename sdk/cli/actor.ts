import { hostname, userInfo } from 'node:os'
import { CONTROL_LIMITS } from '../model/limits.ts'

/** `user@host`, as far as a header can carry it: what a change of policy or limits is recorded with. */
export function currentActor(): string {
  return actorOf(userName(), hostname())
}

export function actorOf(user: string, host: string): string {
  return `${user}@${host}`.replaceAll(/[^\x20-\x7e]/gu, '?').slice(0, CONTROL_LIMITS.actorCharsMax)
}

function userName(): string {
  try {
    return userInfo().username
  } catch {
    // In a container the user may be in no list: then the number is all there is to say.
    return `uid-${process.getuid?.() ?? 'unknown'}`
  }
}
