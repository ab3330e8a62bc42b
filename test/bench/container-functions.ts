/** The functions that the container bench asks: the same answer by a handler, an image and an isolate. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { BenchNode } from './bench-node.ts'
import { SERVER_SOURCE } from './docker-run.ts'

export const KINDS = ['code', 'image', 'isolate'] as const
export type Kind = (typeof KINDS)[number]

/** The class of blanks that each begins as. */
export const BLANK_CLASS: Readonly<Record<Kind, RegExp>> = {
  code: /^nodejs24\//,
  image: /^sandbox$/,
  isolate: /^worker$/,
}

export const HANDLER_SOURCE =
  "exports.handler = ({ rawPath }) => rawPath === '/hang' ? new Promise(() => {}) : { statusCode: 200, body: 'hello' }"

const WORKER_SOURCE = `export default { async fetch(request) {
  if (request.url.endsWith('/hang')) await scheduler.wait(60_000)
  return new Response('hello') } }`

/** `mark` makes it another version. */
export async function deployKind(
  bench: BenchNode,
  options: { readonly kind: Kind; readonly name: string; readonly directory: string; readonly mark?: string },
): Promise<void> {
  const { kind, name, mark = '' } = options
  if (kind === 'isolate') {
    await bench.deploy(name, `${WORKER_SOURCE} //${mark}`)
    return
  }
  const directory = join(options.directory, name)
  mkdirSync(directory, { recursive: true })
  const config = kind === 'code' ? { runtime: 'nodejs24', handler: 'index.handler' } : { dockerfile: true }
  writeFileSync(join(directory, 'isola.jsonc'), JSON.stringify({ name, ...config }))
  writeFileSync(join(directory, 'index.js'), `${kind === 'code' ? HANDLER_SOURCE : SERVER_SOURCE} //${mark}`)
  if (kind === 'image') {
    writeFileSync(
      join(directory, 'Dockerfile'),
      'FROM isola-runtime-nodejs24\nCOPY index.js /app/\nENTRYPOINT ["node", "/app/index.js"]\n',
    )
  }
  const { code, stderr } = await bench.node.isola('deploy', directory, '--json')
  if (code !== 0) throw new Error(`${name} could not be deployed: ${stderr}`)
}
