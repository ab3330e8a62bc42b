/**
 * The files of a container. Sockets lie under the run directory, whose path is short; what must be on the disk of the
 * code store, so that code can be linked instead of copied, under the data directory.
 *
 *   <run>/c/<id>/http.sock               where the router calls it (protocol `lambda`)
 *   <run>/c/<id>/api/api.sock            where isola's own runtimes ask; the folder is /run/isola inside, read-only
 *   <data>/containers/<id>/record.json   what the next agent must know
 *   <data>/containers/<id>/task/         of a blank: becomes its /var/task, read-only inside
 */
import { mkdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import { IsolaError } from '../../sdk/model/errors.ts'

export const RUN_FOLDER = 'c'
export const DATA_FOLDER = 'containers'

export interface Home {
  readonly id: string
  /** Where `record.json` is. */
  readonly directory: string
  readonly httpSocket: string
  readonly apiDirectory: string
  readonly apiSocket: string
  readonly taskDirectory: string
  /** Removes it all. Never rejects. */
  clear(): Promise<void>
}

export interface HomeOptions {
  readonly id: string
  readonly runDirectory: string
  readonly dataDirectory: string
  /** True for one that is there already. */
  readonly adopted: boolean
}

export function openHome({ id, runDirectory, dataDirectory, adopted }: HomeOptions): Home {
  const sockets = join(runDirectory, RUN_FOLDER, id)
  const directory = join(dataDirectory, DATA_FOLDER, id)
  const apiDirectory = join(sockets, 'api')
  const taskDirectory = join(directory, 'task')
  if (!adopted) {
    mkdirSync(taskDirectory, { recursive: true, mode: 0o755 })
    mkdirSync(apiDirectory, { recursive: true, mode: 0o755 })
  }
  return {
    id,
    directory,
    httpSocket: join(sockets, 'http.sock'),
    apiDirectory,
    apiSocket: join(apiDirectory, 'api.sock'),
    taskDirectory,
    async clear() {
      await removeDirectory(sockets)
      await removeDirectory(directory)
    },
  }
}

/** A process that is just ending may still put something there. What cannot be removed now is cleared by the next adoption. */
export async function removeDirectory(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 }).catch(() => undefined)
}

/** The kernel cuts socket paths without a word on some paths of libuv; better to say it once. Throws `invalid_argument`. */
export function checkPathLength(runDirectory: string, idChars: number): void {
  const longest = join(runDirectory, RUN_FOLDER, '0'.repeat(idChars), 'api', 'api.sock')
  const bytes = Buffer.byteLength(longest)
  if (bytes <= INSTANCE_LIMITS.socketPathBytesMax) return
  throw new IsolaError(
    'invalid_argument',
    `socket paths like ${longest} would have ${bytes} bytes, and the kernel takes ${INSTANCE_LIMITS.socketPathBytesMax}: choose a run directory with a shorter path`,
  )
}
