/** Static files on a whole node: deployed by the control API, served by the router, asked for by real isolates. */
import { createHash } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { encodeAssetManifest } from '../../sdk/model/asset-manifest.ts'
import type { AssetsConfig } from '../../sdk/model/function.ts'
import { startWorkNode, type WorkNode } from '../harness/work-node.ts'

const CODE = `export default { async fetch(request, env) {
  const { pathname } = new URL(request.url)
  if (pathname === '/api/forge') {
    const answer = await fetch('http://files.invalid/', { headers: { 'isola-assets-of': request.headers.get('x-other') } })
    return new Response(answer.status + ' ' + await answer.text())
  }
  const answer = await env.ASSETS.fetch(new Request('https://any.host' + pathname.replace('/api', ''), request))
  return new Response('by code: ' + answer.status + ' ' + answer.headers.get('content-type') + ' ' + await answer.text())
} }`

let node: WorkNode
beforeAll(async () => {
  node = await startWorkNode()
})
afterAll(async () => {
  expect((await node.stop()).leftBehind).toEqual([])
  expect(node.traces()).toEqual([])
})

async function call(method: string, path: string, body: Uint8Array | string): Promise<unknown> {
  const headers = { authorization: `Bearer ${node.token}`, 'content-type': 'application/json' }
  const response = await fetch(node.controlUrl + path, { method, headers, body: Buffer.from(body) })
  const text = await response.text()
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
  return text === '' ? undefined : JSON.parse(text)
}

async function putBlob(body: Uint8Array): Promise<{ sha256: string; sizeBytes: number }> {
  const sha256 = createHash('sha256').update(body).digest('hex')
  await call('PUT', `/v1/blobs/${sha256}`, body)
  return { sha256, sizeBytes: body.byteLength }
}

async function deploy(
  name: string,
  files: Readonly<Record<string, string>>,
  options: { readonly code?: string; readonly config?: AssetsConfig } = {},
): Promise<string> {
  const entries = Object.entries(files).map(
    async ([path, body]) =>
      [path, { ...(await putBlob(Buffer.from(body))), contentType: 'text/html' }] as const,
  )
  const manifest = await putBlob(encodeAssetManifest(Object.fromEntries(await Promise.all(entries))))
  const { code } = options
  const modules =
    code === undefined ? [] : [{ name: 'index.js', kind: 'esm', ...(await putBlob(Buffer.from(code))) }]
  const result = (await call(
    'POST',
    `/v1/functions/${name}/deploy`,
    JSON.stringify({
      kind: 'worker',
      mainModule: code === undefined ? '' : 'index.js',
      modules,
      assets: { manifest, config: options.config ?? {} },
      bindings: code === undefined ? [] : [{ type: 'assets', name: 'ASSETS' }],
      compatibilityDate: '2026-11-01',
      compatibilityFlags: [],
      routes: [],
      baseDomainHost: true,
      previewHosts: true,
    }),
  )) as { deployment: { shares: readonly { versionId: string }[] } }
  return result.deployment.shares[0]!.versionId
}

test('a function of static files only is served, the new ones as soon as a deploy says so, and no instance is started', async () => {
  await deploy('site', { '/index.html': 'one' })
  expect(await node.get('site')).toMatchObject({ status: 200, text: 'one' })
  await deploy('site', { '/index.html': 'two', '/about.html': 'about' })
  expect((await node.get('site')).text).toBe('two')
  expect((await node.get('site', '/about')).text).toBe('about')
  expect((await node.get('site', '/none')).status).toBe(404)
  expect(await node.instances('site')).toEqual([])
})

test('a function asks for its own files, as its code or before it, and files need no instance', async () => {
  const id = await deploy('both', { '/index.html': 'home', '/a/index.html': 'page a' }, { code: CODE })
  expect((await node.get('both')).text).toBe('home')
  expect((await node.get('both', '/api/a/')).text).toBe('by code: 200 text/html page a')
  expect((await node.get('both', '/api/none')).text).toBe('by code: 404 null ')
  await deploy('first', { '/index.html': 'home' }, { code: CODE, config: { runWorkerFirst: true } })
  expect((await node.get('first')).text).toBe('by code: 200 text/html home')
  const forged = await node.get('first', '/api/forge', { headers: { 'x-other': id } })
  // The header goes no further than the instance: it is a request to a host like any other.
  expect(forged.text).toMatch(/^502 .*egress_failed.*files\.invalid/)
})

test('files are served on by the router alone, and again by the next agent', async () => {
  await deploy('stays', { '/index.html': 'still here' })
  await node.kill9()
  expect((await node.get('stays')).text).toBe('still here')
  await node.restart()
  expect((await node.get('stays')).text).toBe('still here')
})
