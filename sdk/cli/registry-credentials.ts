import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { PullRequest } from '../model/control.ts'
import { IsolaError } from '../model/errors.ts'
import type { CommandContext } from './command.ts'
import { usageError } from './parse-arguments.ts'
import { readInput } from './read-input.ts'

type Where = Pick<CommandContext, 'flags' | 'environment' | 'input' | 'output'>
type Credentials = Pick<PullRequest, 'username' | 'password'>

const PASSWORD_BYTES_MAX = 64 * 1024

/** Throws `usage` where only one of the two flags was given. */
export function checkCredentialFlags({ flags }: Pick<Where, 'flags'>): void {
  if (flags.has('username') === flags.has('password-stdin')) return
  throw usageError(
    flags.has('username')
      ? '--username needs a password: add --password-stdin and give it on stdin'
      : '--password-stdin needs a name: add --username NAME',
  )
}

/**
 * For a pull: what was typed, else what Docker's own configuration has for that registry. Its credential helpers are not
 * run: they are programs, and a warning says that one is named there.
 */
export async function readCredentials(where: Where, reference: string): Promise<Credentials> {
  checkCredentialFlags(where)
  const username = where.flags.text('username')
  if (username === undefined) return fromDockerConfig(where, registryOf(reference))
  const password = (await readInput(where, PASSWORD_BYTES_MAX)).toString('utf8').replace(/\r?\n$/, '')
  if (password === '') throw usageError('--password-stdin found nothing on stdin: give the password there')
  return { username, password }
}

/** A first segment that could be no name of a user is a host; all else is Docker Hub's. */
function registryOf(reference: string): string {
  const first = reference.split('/')[0] ?? ''
  const isHost = reference.includes('/') && (/[.:]/.test(first) || first === 'localhost')
  return isHost ? first : 'docker.io'
}

interface DockerConfig {
  readonly auths?: Readonly<Record<string, { auth?: string; username?: string; password?: string } | null>>
  readonly credHelpers?: Readonly<Record<string, string>>
  readonly credsStore?: string
}

async function fromDockerConfig({ environment, output }: Where, registry: string): Promise<Credentials> {
  const directory =
    environment.DOCKER_CONFIG ??
    (environment.HOME === undefined ? undefined : join(environment.HOME, '.docker'))
  if (directory === undefined) return {}
  const path = join(directory, 'config.json')
  const config = await readDockerConfig(path)
  const names =
    registry === 'docker.io'
      ? ['https://index.docker.io/v1/', 'index.docker.io', 'docker.io']
      : [
          registry,
          `https://${registry}`,
          `https://${registry}/`,
          `https://${registry}/v1/`,
          `https://${registry}/v2/`,
        ]
  for (const name of names) {
    const entry =
      config?.auths !== undefined && Object.hasOwn(config.auths, name) ? config.auths[name] : undefined
    if (entry?.username !== undefined && entry.password !== undefined) {
      return { username: entry.username, password: entry.password }
    }
    const plain = Buffer.from(entry?.auth ?? '', 'base64').toString('utf8')
    const colon = plain.indexOf(':')
    if (colon > 0) {
      return { username: plain.slice(0, colon), password: plain.slice(colon + 1).replace(/\0+$/, '') }
    }
  }
  const helper = names.map((name) => config?.credHelpers?.[name]).find((name) => name !== undefined)
  const named = helper ?? config?.credsStore
  if (named !== undefined) {
    output.warn(
      `${path} keeps the credentials of ${registry} in a helper ("${named}"), which isola does not run: give --username and --password-stdin if the registry asks for them`,
    )
  }
  return {}
}

async function readDockerConfig(path: string): Promise<DockerConfig | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as DockerConfig
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw new IsolaError(
      'config_invalid',
      `${path} cannot be used (${(error as Error).message}): mend it, or give --username and --password-stdin`,
      { cause: error },
    )
  }
}
