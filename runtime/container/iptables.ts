/**
 * One chain of rules for what comes in from one bridge, kept in force through the machine's own `iptables`, whichever
 * of its two kinds that is. Changes are one transaction of `iptables-restore`: there is no moment without rules.
 */
import { execFile } from 'node:child_process'
import { IsolaError } from '../../sdk/model/errors.ts'
import { CONTAINER_LIMITS } from '../../sdk/model/limits.ts'

export interface Firewall {
  /** Does nothing where they are in force. Throws `unsupported_machine`. */
  ensure(rules: ChainRules): Promise<void>
  /** What is gone is well removed. */
  remove(chain: Omit<ChainRules, 'rules'>): Promise<void>
}

export interface ChainRules {
  readonly chain: string
  readonly bridgeName: string
  /** In the words of `iptables -S`, without `-A` and the chain. */
  readonly rules: readonly string[]
}

const TABLE = 'mangle'
const HOOK = 'PREROUTING'

/** `path`: where the programs are looked for. @default where systems have them */
export function createFirewall({
  path = '/usr/sbin:/usr/bin:/sbin:/bin',
}: { readonly path?: string } = {}): Firewall {
  const run = (program: string, parameters: readonly string[], input = ''): Promise<string> =>
    runProgram({ program, parameters, input, path })
  const listed = async (): Promise<readonly string[]> =>
    (await run('iptables', ['-w', '-t', TABLE, '-S'])).split('\n')
  return {
    async ensure({ chain, bridgeName, rules }) {
      const jump = jumpRule(chain, bridgeName)
      const wanted = rules.map((rule) => `-A ${chain} ${rule}`)
      const there = await listed()
      const isFirst = there.find((line) => line.startsWith(`-A ${HOOK} `)) === jump
      const isSame = there.filter((line) => line.startsWith(`-A ${chain} `)).join('\n') === wanted.join('\n')
      const jumpsOnce = there.filter((line) => line === jump).length === 1
      if (isFirst && isSame && jumpsOnce) return
      const old = there.filter((line) => line === jump).map((line) => line.replace('-A', '-D'))
      await restore(run, [`:${chain} - [0:0]`, ...wanted, ...old, jump.replace(`-A ${HOOK}`, `-I ${HOOK} 1`)])
    },
    async remove({ chain, bridgeName }) {
      const there = await listed()
      const jump = jumpRule(chain, bridgeName)
      const old = there.filter((line) => line === jump).map((line) => line.replace('-A', '-D'))
      if (!there.includes(`-N ${chain}`)) return
      await restore(run, [...old, `-F ${chain}`, `-X ${chain}`])
    },
  }
}

function jumpRule(chain: string, bridgeName: string): string {
  return `-A ${HOOK} -i ${bridgeName} -j ${chain}`
}

async function restore(
  run: (program: string, parameters: readonly string[], input: string) => Promise<string>,
  lines: readonly string[],
): Promise<void> {
  await run('iptables-restore', ['-w', '--noflush'], [`*${TABLE}`, ...lines, 'COMMIT', ''].join('\n'))
}

interface ProgramRun {
  readonly program: string
  readonly parameters: readonly string[]
  readonly input: string
  readonly path: string
}

async function runProgram({ program, parameters, input, path }: ProgramRun): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      program,
      [...parameters],
      {
        env: { PATH: path, LC_ALL: 'C' },
        timeout: CONTAINER_LIMITS.firewallTimeoutMs,
        maxBuffer: 16 * 1024 * 1024,
      },
      (error, stdout, stderr) => (error === null ? resolve(stdout) : reject(explain(program, error, stderr))),
    )
    // A program that is not there, or that ends early, says so by its own end.
    child.stdin?.on('error', () => undefined).end(input)
  })
}

function explain(program: string, error: Error & { readonly code?: unknown }, stderr: string): IsolaError {
  const isMissing = error.code === 'ENOENT'
  const why = isMissing ? 'it is not installed' : stderr.trim().split('\n')[0] || error.message
  const remedy = isMissing
    ? 'install it (Debian: apt-get install iptables)'
    : 'run isola as root on a kernel with netfilter'
  return new IsolaError(
    'unsupported_machine',
    `containers with egress need the program "${program}" to keep them from this node's own network, and ${why}: ${remedy}, or deploy the function with "egress": false`,
    { cause: error },
  )
}
