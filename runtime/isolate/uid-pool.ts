/**
 * User ids for instances, one each. Processes of the same user may signal each other and there is no PID namespace
 * between them, so the ids of two nodes on one machine are kept apart too, by the node's name.
 */
import { createHash } from 'node:crypto'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import { IsolaError } from '../../sdk/model/errors.ts'

export interface UidPool {
  /** The lowest free id that was not just in use. Throws `node_full`. */
  take(): number
  /** For an instance that has one already. */
  reserve(uid: number): void
  release(uid: number): void
}

/** Above what distributions give to users and packages. */
const UID_FIRST = 600_000
const RANGES = 512

/** `own`: every instance runs as this process's own user. */
export function createUidPool({ name, own }: { readonly name: string; readonly own: boolean }): UidPool {
  const ownUid = process.getuid?.() ?? 0
  if (own) return { take: () => ownUid, reserve: () => undefined, release: () => undefined }
  const range = createHash('sha256').update(name).digest().readUInt32BE(0) % RANGES
  const first = UID_FIRST + range * INSTANCE_LIMITS.uidsMax
  const taken = new Set<number>()
  let next = 0
  return {
    take() {
      for (let tried = 0; tried < INSTANCE_LIMITS.uidsMax; tried++) {
        const uid = first + next
        next = (next + 1) % INSTANCE_LIMITS.uidsMax
        if (taken.has(uid)) continue
        taken.add(uid)
        return uid
      }
      throw new IsolaError(
        'node_full',
        `${INSTANCE_LIMITS.uidsMax} instances run on this node, which is as many as it may have: add a node`,
      )
    },
    reserve: (uid) => void taken.add(uid),
    release: (uid) => void taken.delete(uid),
  }
}
