/**
 * AWS's own runtime client for Node.js, unmodified. A part of it is compiled when it is installed, which takes a
 * minute: it is done once and kept in the cache of `node_modules`. Where it cannot be compiled, its tests are skipped by
 * name; in CI they fail.
 */
import { execFile } from 'node:child_process'
import { existsSync, globSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, test } from 'vitest'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const EXAMPLE = join(ROOT, 'examples/aws-image')

/** How long installing it may take. */
export const AWS_CLIENT_INSTALL_MS = 300_000

const TOOLS = ['cmake', 'make', 'c++', 'python3']
const hasTools = TOOLS.every((tool) =>
  (process.env['PATH'] ?? '').split(':').some((directory) => existsSync(join(directory, tool))),
)
const mustRun = hasTools || process.env['CI'] !== undefined

/** `test` and `describe` of what needs it. */
export const awsClientTest = mustRun ? test : test.skip
export const describeAwsClient = mustRun ? describe : describe.skip

/** Directory whose `node_modules` has it, as `npm install` in `examples/aws-image` makes it. */
export async function installAwsClient(): Promise<string> {
  const manifest = JSON.parse(await readFile(join(EXAMPLE, 'package.json'), 'utf8')) as {
    dependencies: { 'aws-lambda-ric': string }
  }
  const cache = join(ROOT, 'node_modules/.cache')
  const directory = join(cache, `aws-lambda-ric-${manifest.dependencies['aws-lambda-ric']}`)
  if (existsSync(directory)) return directory
  await mkdir(cache, { recursive: true })
  const making = await mkdtemp(`${directory}-`)
  try {
    await cp(join(EXAMPLE, 'package.json'), join(making, 'package.json'))
    await promisify(execFile)(
      'npm',
      ['install', '--omit=dev', '--no-audit', '--no-fund', '--no-package-lock', '--foreground-scripts'],
      {
        cwd: making,
        maxBuffer: 64 * 1024 * 1024,
        env: { ...process.env, npm_config_nodedir: headersDirectory() },
      },
    )
    // Who was faster has made the same.
    await rename(making, directory).catch((error: unknown) => {
      if (!existsSync(directory)) throw error
    })
  } finally {
    await rm(making, { recursive: true, force: true })
  }
  return directory
}

/** Node's headers, of any version: what is compiled needs the stable part of them. Else npm would download them. */
function headersDirectory(): string | undefined {
  const prefix = join(dirname(process.execPath), '..')
  return [prefix, ...globSync(join(prefix, '{node_modules,..}/node-linux-*')), '/usr', '/usr/local'].find(
    (directory) => existsSync(join(directory, 'include/node/node_api.h')),
  )
}
