/**
 * Access keys in a file of the node's data directory, mode 0600. Secrets are kept as they are: a signature can only be
 * checked with the secret itself, so a digest would not do.
 */
import { randomBytes, randomInt } from 'node:crypto'
import { open, readFile, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import { z } from 'zod'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { NewAccessKey } from '../../sdk/model/lambda.ts'
import { CONTROL_LIMITS, LAMBDA_API_LIMITS } from '../../sdk/model/limits.ts'
import type { AccessKeys } from '../control/ports.ts'

const keysDocument = z.looseObject({
  keys: z.array(
    z.looseObject({
      accessKeyId: z.string().min(1),
      secretAccessKey: z.string().min(1),
      description: z.string(),
      createdAt: z.string(),
    }),
  ),
})

/** Throws `data_unusable` where the file is there and cannot be read. */
export async function openAccessKeys(path: string): Promise<AccessKeys> {
  let keys = await readKeys(path)
  let writing: Promise<unknown> = Promise.resolve()
  /** One write after the other, each over what the one before left. */
  const change = <T>(
    next: () => { readonly keys: readonly NewAccessKey[]; readonly result: T },
  ): Promise<T> => {
    const turn = writing.then(async () => {
      const { keys: changed, result } = next()
      if (changed !== keys) await writeKeys(path, changed)
      keys = changed
      return result
    })
    writing = turn.catch(() => undefined)
    return turn
  }
  return {
    list: () =>
      keys.map(({ accessKeyId, description, createdAt }) => ({ accessKeyId, description, createdAt })),
    create: ({ description }) =>
      change(() => {
        checkRoom(keys.length, description)
        const key: NewAccessKey = {
          accessKeyId: newAccessKeyId(),
          secretAccessKey: randomBytes(30).toString('base64'),
          description,
          createdAt: new Date().toISOString(),
        }
        return { keys: [...keys, key], result: key }
      }),
    delete: (accessKeyId) =>
      change(() => {
        const kept = keys.filter((key) => key.accessKeyId !== accessKeyId)
        const found = kept.length < keys.length
        return { keys: found ? kept : keys, result: found }
      }),
    secretOf: (accessKeyId) => keys.find((key) => key.accessKeyId === accessKeyId)?.secretAccessKey,
  }
}

function checkRoom(count: number, description: string): void {
  if (description.length > CONTROL_LIMITS.messageCharsMax) {
    throw new IsolaError(
      'invalid_argument',
      `the description has ${description.length} characters: give at most ${CONTROL_LIMITS.messageCharsMax}`,
    )
  }
  if (count < LAMBDA_API_LIMITS.keysMax) return
  throw new IsolaError(
    'conflict',
    `there are ${count} access keys, and ${LAMBDA_API_LIMITS.keysMax} is the most: delete one that is not needed (isola keys delete ID)`,
  )
}

const ID_LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'
const ID_LENGTH = 20

/** As long as AWS's, which some clients count on. */
function newAccessKeyId(): string {
  let id = 'AKISOLA'
  while (id.length < ID_LENGTH) id += ID_LETTERS[randomInt(ID_LETTERS.length)]
  return id
}

async function readKeys(path: string): Promise<readonly NewAccessKey[]> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw unusable(path, (error as Error).message, error)
  }
  try {
    return keysDocument.parse(JSON.parse(text)).keys
  } catch (error) {
    throw unusable(path, 'it is no list of access keys', error)
  }
}

/** A file of its own, synced, then renamed: a crash leaves the old keys or the new ones. */
async function writeKeys(path: string, keys: readonly NewAccessKey[]): Promise<void> {
  const temporary = `${path}.new`
  const file = await open(temporary, 'w', 0o600)
  try {
    await file.writeFile(`${JSON.stringify({ keys }, undefined, 2)}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
  const directory = await open(dirname(path), 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

function unusable(path: string, why: string, cause: unknown): IsolaError {
  return new IsolaError(
    'data_unusable',
    `cannot use the access keys in ${path}: ${why}. Repair the file, or remove it and make new keys (isola keys create)`,
    { cause },
  )
}
