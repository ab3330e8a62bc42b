/**
 * What stands between a function and the machine, made of util-linux alone because every machine has it: one chain of
 * `exec`s, so that the pid we start is workerd's pid and nobody must relay its exit.
 *
 * As root the instance gets a user id of its own. Without root the same chain runs in a user namespace. Where the
 * kernel or a container forbids namespaces, what remains is tried in turn; each candidate is tried out for real once,
 * because no list of prerequisites is ever complete.
 */
import { spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import { IsolaError } from '../../sdk/model/errors.ts'
import { buildSandboxRoot, SOCKETS_INSIDE } from './sandbox-root.ts'
import { detachScript, limitScript } from './sandbox-script.ts'

export type SandboxChoice = 'auto' | 'unshare' | 'none'

export interface Sandbox {
  readonly kind: 'namespaces' | 'user' | 'none'
  /** For `isola up` and `isola status`. */
  readonly description: string
  /** How the instance names its socket directory. The same for all: a version's config then fits any blank. */
  readonly socketsInside: string
  /** Whether each instance runs as a user id of its own. */
  readonly ownUid: boolean
  command(launch: SandboxLaunch): readonly string[]
}

export interface SandboxLaunch {
  /** On the host; the only directory that the instance may write to. It is also the working directory to start in. */
  readonly socketDirectory: string
  readonly uid: number
  /** Files of cgroups that the process writes its id to before it becomes workerd. */
  readonly processFiles: readonly string[]
  readonly workerdArguments: readonly string[]
}

export interface SandboxOptions {
  readonly choice: SandboxChoice
  /** For the files of the sandbox itself. */
  readonly directory: string
  readonly workerd: string
  /** @default process.getuid() === 0 */
  readonly isRoot?: boolean
}

/** Throws `unsupported_machine` where the choice is not to be had, or where workerd does not start at all. */
export async function prepareSandbox(options: SandboxOptions): Promise<Sandbox> {
  const isRoot = options.isRoot ?? process.getuid?.() === 0
  const refusals: string[] = []
  for (const candidate of candidates({ ...options, isRoot })) {
    const outcome = await tryOut(candidate)
    if (outcome === undefined) return candidate.make(refusals[0])
    refusals.push(`${candidate.name}: ${outcome}`)
  }
  throw new IsolaError(
    'unsupported_machine',
    options.choice === 'unshare'
      ? `this machine gives no namespaces (${refusals[0]}): run as root, allow user namespaces, or choose --sandbox none`
      : `workerd does not start on this machine (${refusals.join('; ')})`,
  )
}

export const SANDBOX_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

interface Candidate {
  readonly name: string
  /** Throws where something it needs is missing. `refusal` is why the better one was not taken. */
  make(refusal?: string): Sandbox
}

function candidates(options: SandboxOptions & { readonly isRoot: boolean }): Candidate[] {
  const { choice, isRoot } = options
  const all: Candidate[] = []
  if (choice !== 'none') all.push({ name: 'namespaces', make: () => namespaces(options) })
  if (choice === 'unshare') return all
  const why = (refusal: string | undefined): string =>
    choice === 'none'
      ? 'it was chosen'
      : `${refusal ?? 'nothing better works'}; ${isRoot ? 'allow this process to unshare and mount' : 'run as root or allow user namespaces'}`
  if (isRoot) all.push({ name: 'own uid', make: (refusal) => ownUser(options.workerd, why(refusal)) })
  all.push({ name: 'no privileges', make: (refusal) => unconfined(options.workerd, why(refusal), true) })
  all.push({ name: 'plain process', make: (refusal) => unconfined(options.workerd, why(refusal), false) })
  return all
}

const DROP_PRIVILEGES = '--no-new-privs --inh-caps=-all --ambient-caps=-all --bounding-set=-all'

function namespaces({ directory, workerd, isRoot }: SandboxOptions & { readonly isRoot: boolean }): Sandbox {
  const root = buildSandboxRoot(directory, { workerd, setpriv: find('setpriv'), umount: find('umount') })
  const user = isRoot ? '--reuid "$uid" --regid "$uid" --clear-groups' : ''
  const inside = [
    'sockets=$1 uid=$2',
    'shift 2',
    // Not vital, and /proc/sys may be read-only in a container: the host's name would merely show.
    '{ echo isola >/proc/sys/kernel/hostname; } 2>/dev/null || :',
    detachScript({
      root,
      mount: find('mount'),
      pivotRoot: find('pivot_root'),
      socketsInside: SOCKETS_INSIDE,
    }),
    `exec /setpriv ${user} ${DROP_PRIVILEGES} /workerd "$@"`,
  ].join('\n')
  const unshare = [
    find('unshare'),
    ...(isRoot ? [] : ['--user', '--map-root-user']),
    '--mount',
    '--net',
    '--ipc',
    '--uts',
  ]
  const shell = find('sh')
  return {
    kind: 'namespaces',
    description: `namespaces (mount, network, ipc, host name${isRoot ? '' : ', user'}), read-only root, ${isRoot ? 'own uid' : 'uid of the node'}, no capabilities (unshare)`,
    socketsInside: SOCKETS_INSIDE,
    ownUid: isRoot,
    command: ({ processFiles, socketDirectory, uid, workerdArguments }) => [
      ...limited(shell, processFiles),
      ...unshare,
      '--',
      shell,
      '-ec',
      inside,
      'isola',
      socketDirectory,
      String(uid),
      ...workerdArguments,
    ],
  }
}

/** Root without namespaces, as in a plain container: at least no function runs as root. */
function ownUser(workerd: string, why: string): Sandbox {
  const setpriv = find('setpriv')
  const shell = find('sh')
  return {
    kind: 'user',
    description: `own uid, no capabilities; no namespaces (${why})`,
    socketsInside: '.',
    ownUid: true,
    command: ({ processFiles, uid, workerdArguments }) => [
      ...limited(shell, processFiles),
      setpriv,
      `--reuid=${uid}`,
      `--regid=${uid}`,
      '--clear-groups',
      ...DROP_PRIVILEGES.split(' '),
      workerd,
      ...workerdArguments,
    ],
  }
}

function unconfined(workerd: string, why: string, noNewPrivileges: boolean): Sandbox {
  const prefix = noNewPrivileges ? [find('setpriv'), '--no-new-privs'] : []
  const shell = find('sh')
  return {
    kind: 'none',
    description: `none: instances run as the user of the node${noNewPrivileges ? ', without new privileges' : ''} (${why})`,
    socketsInside: '.',
    ownUid: false,
    command: ({ processFiles, workerdArguments }) => [
      ...limited(shell, processFiles),
      ...prefix,
      workerd,
      ...workerdArguments,
    ],
  }
}

/** The first link of every chain: cgroups and resource limits, then whatever follows. */
function limited(shell: string, processFiles: readonly string[]): string[] {
  return [shell, '-c', limitScript(), 'isola', String(processFiles.length), ...processFiles]
}

/** Undefined where workerd ran; else the reason, for a person. */
async function tryOut(candidate: Candidate): Promise<string | undefined> {
  let command: readonly string[]
  try {
    command = candidate
      .make()
      .command({ socketDirectory: '/tmp', uid: 65_534, processFiles: [], workerdArguments: ['--version'] })
  } catch (error) {
    return (error as Error).message
  }
  const child = spawn(command[0]!, command.slice(1), {
    cwd: '/',
    env: { PATH: SANDBOX_PATH },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: INSTANCE_LIMITS.sandboxTrialTimeoutMs,
    killSignal: 'SIGKILL',
  })
  let output = ''
  let errors = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text))
  const code = await new Promise<number | string>((resolve) => {
    child.once('error', (error) => resolve(error.message))
    child.once('close', (code, signal) => resolve(code ?? signal ?? 'unknown'))
  })
  if (code === 0 && output.startsWith('workerd ')) return undefined
  return errors.trim().split('\n').at(-1) || `exit ${code}`
}

function find(tool: string): string {
  for (const folder of SANDBOX_PATH.split(':')) {
    const path = join(folder, tool)
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      continue
    }
  }
  throw new Error(`${tool} is not installed (util-linux)`)
}
