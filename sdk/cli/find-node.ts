import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { NodeFile } from '../../runtime/node/data-directory.ts'
import type { NodeAddress } from '../client/call.ts'
import { createClient, type ControlClient } from '../client/client.ts'
import { IsolaError } from '../model/errors.ts'
import { currentActor } from './actor.ts'
import type { CommandContext } from './command.ts'
import { usageError } from './parse-arguments.ts'

export const DEFAULT_DATA_DIRECTORY = '.isola'

type Where = Pick<CommandContext, 'flags' | 'environment' | 'workingDirectory'>

/**
 * The node a command means. What was typed beats what is in the environment: `--control`, then `--data`, then
 * ISOLA_CONTROL_URL, then the default data directory. Throws `node_unreachable` that says how to start one.
 */
export async function findNode(where: Where): Promise<NodeAddress> {
  const typedUrl = where.flags.text('control')
  const environmentUrl = where.environment.ISOLA_CONTROL_URL
  const controlUrl = typedUrl ?? (where.flags.has('data') || !environmentUrl ? undefined : environmentUrl)
  const token = where.flags.text('token') ?? where.environment.ISOLA_TOKEN
  if (controlUrl !== undefined) {
    checkControlUrl(controlUrl, typedUrl === undefined ? 'ISOLA_CONTROL_URL' : '--control')
    if (token) return { controlUrl, token }
    throw new IsolaError(
      'unauthorized',
      `no token for ${controlUrl}: set ISOLA_TOKEN to what the file "token" in that node's data directory holds`,
    )
  }
  const directory = dataDirectoryOf(where)
  const file = await readNodeFile(directory)
  if (file === undefined || !isRunning(file.pid)) {
    throw new IsolaError(
      'node_unreachable',
      `no node is running on ${directory}: start one with "isola up${dataFlag(where)}", or name another with --data DIR or --control URL`,
    )
  }
  return { controlUrl: file.controlUrl, token: token || (await readToken(directory)) }
}

export async function connectToNode(where: Where): Promise<ControlClient> {
  return createClient({ ...(await findNode(where)), actor: currentActor() })
}

export function dataDirectoryOf(where: Where): string {
  return resolve(where.workingDirectory, where.flags.text('data') ?? DEFAULT_DATA_DIRECTORY)
}

/** `undefined` where no node has ever been ready on this directory. */
export async function readNodeFile(directory: string): Promise<NodeFile | undefined> {
  const path = join(directory, 'node.json')
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (
      (error as NodeJS.ErrnoException).code === 'ENOENT' ||
      (error as NodeJS.ErrnoException).code === 'ENOTDIR'
    ) {
      return undefined
    }
    throw new IsolaError('data_unusable', `cannot read ${path}: ${(error as Error).message}`, {
      cause: error,
    })
  }
  try {
    const file = JSON.parse(text) as NodeFile
    if (Number.isInteger(file.pid) && URL.canParse(file.controlUrl)) return file
  } catch (error) {
    throw new IsolaError('data_unusable', `${path} is not JSON: delete it and start the node again`, {
      cause: error,
    })
  }
  throw new IsolaError(
    'data_unusable',
    `${path} names no process and control URL: delete it and start the node again`,
  )
}

export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

async function readToken(directory: string): Promise<string> {
  const path = join(directory, 'token')
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch (error) {
    throw new IsolaError(
      'unauthorized',
      `cannot read the node's token from ${path} (${(error as Error).message}): run this as the user who started the node, or set ISOLA_TOKEN`,
      { cause: error },
    )
  }
}

function checkControlUrl(text: string, from: string): void {
  if (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)) return
  throw usageError(
    `${from} is ${JSON.stringify(text)}: give the node's control URL, e.g. http://127.0.0.1:8081`,
  )
}

function dataFlag(where: Where): string {
  const data = where.flags.text('data')
  return data === undefined ? '' : ` --data ${data}`
}
