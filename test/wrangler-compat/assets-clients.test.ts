/** One project, deployed by `isola deploy` and by requests as wrangler makes them of it: one version. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { assetContentType } from '../../bundler/asset-content-type.ts'
import { buildWorker } from '../../sdk/cli/build-function.ts'
import { loadFunction } from '../../sdk/cli/load-function.ts'
import type { WorkerContent } from '../../sdk/model/function.ts'
import type { IsolaError } from '../../sdk/model/errors.ts'
import { failureOf, temporaryProject } from '../bundler/temporary-project.ts'
import { uploadAssets, type TestAssets } from '../harness/asset-client.ts'
import { versionOf } from '../harness/control-place.ts'
import { openWranglerPlace, SCRIPTS, uploadForm, type WranglerPlace } from '../harness/wrangler-place.ts'

let place: WranglerPlace

beforeEach(async () => {
  place = await openWranglerPlace()
})
afterEach(() => place.close())

const FILES = {
  'public/index.html': '<h1>home</h1>',
  'public/assets/app-1a2b.js': 'console.log(1)',
  'public/assets/app-1a2b.js.map': '{}',
  'public/.well-known/security': 'mailto:a@example.com',
  'public/a b/ü.txt': 'text',
  'public/_headers': '/assets/*\n  cache-control: immutable\n',
  'public/_redirects': '/old /new 301\n',
  'public/.assetsignore': '*.map\n',
}
const PATHS = ['/index.html', '/assets/app-1a2b.js', '/.well-known/security', '/a b/ü.txt']
const HEADERS = FILES['public/_headers']
const REDIRECTS = FILES['public/_redirects']
const RULES = { _headers: HEADERS, _redirects: REDIRECTS }

/** What wrangler reads of the directory. */
function wranglerAssets(directory: string): TestAssets {
  return Object.fromEntries(
    PATHS.map((path) => {
      const contentType = assetContentType(path)
      return [
        path,
        {
          body: readFileSync(join(directory, 'public', path)),
          ...(contentType !== undefined && { contentType }),
        },
      ]
    }),
  )
}

async function isolaDeploy(directory: string): Promise<string> {
  const flags = { text: () => undefined, has: () => false } as never
  const config = await loadFunction({ words: [], flags, workingDirectory: directory })
  if (config.kind !== 'worker') throw new Error('it is no worker')
  const { bundle, assets, warnings } = await buildWorker(config)
  expect(warnings).toEqual([])
  const { bindings, compatibilityDate, compatibilityFlags, limits, routes, baseDomainHost, previewHosts } =
    config
  const common = {
    bindings,
    compatibilityDate,
    compatibilityFlags,
    limits,
    routes,
    baseDomainHost,
    previewHosts,
  }
  const result = await place.client.deployBundle(config.functionName, bundle, {
    kind: 'worker',
    ...common,
    ...(assets !== undefined && { staticFiles: assets }),
  })
  return versionOf(result)
}

async function wranglerDeploy(form: FormData): Promise<string> {
  const answer = await place.call('PUT', `${SCRIPTS}/site`, form)
  if (!answer.success) throw new Error(answer.errors[0]?.message)
  return (answer.result as { deployment_id: string }).deployment_id.replaceAll('-', '')
}

describe('a project with static files', () => {
  test.each(['isola first', 'wrangler first'])('alone is one version for both clients, %s', async (order) => {
    const directory = temporaryProject({
      ...FILES,
      'wrangler.jsonc': JSON.stringify({
        name: 'site',
        compatibility_date: '2026-11-01',
        assets: {
          directory: './public',
          not_found_handling: '404-page',
          html_handling: 'auto-trailing-slash',
        },
      }),
    })
    const config = { not_found_handling: '404-page', html_handling: 'auto-trailing-slash', ...RULES }
    const wrangler = async (): Promise<string> => {
      const jwt = await uploadAssets(place, 'site', wranglerAssets(directory))
      return wranglerDeploy(uploadForm({ assets: { jwt, config } }, []))
    }
    const deploys = [() => isolaDeploy(directory), wrangler]
    const ids: string[] = []
    for (const deploy of order === 'isola first' ? deploys : deploys.toReversed()) ids.push(await deploy())
    expect(ids[0]).toMatch(/^[0-9a-f]{32}$/)
    expect(ids[1]).toBe(ids[0])
  })

  test('and code is one version for both clients', async () => {
    const code = 'export default { fetch: (request, env) => env.FILES.fetch(request) }\n'
    const directory = temporaryProject({
      ...FILES,
      'src/index.js': code,
      'wrangler.jsonc': JSON.stringify({
        name: 'site',
        main: 'src/index.js',
        no_bundle: true,
        compatibility_date: '2026-11-01',
        vars: { A: 'a' },
        assets: { directory: 'public', binding: 'FILES', run_worker_first: ['/api/*', '!/api/docs/*'] },
      }),
    })
    const jwt = await uploadAssets(place, 'site', wranglerAssets(directory))
    const config = { run_worker_first: ['/api/*', '!/api/docs/*'], ...RULES }
    const bindings = [
      { name: 'A', type: 'plain_text', text: 'a' },
      { name: 'FILES', type: 'assets' },
    ]
    const metadata = { bindings, compatibility_flags: [], assets: { jwt, config } }
    const wrangler = await wranglerDeploy(uploadForm(metadata, [{ name: 'index.js', body: code }]))
    const own = await isolaDeploy(directory)
    const contents = await Promise.all(
      [own, wrangler].map(async (id) => (await place.registry.getVersion('site', id))?.content),
    )
    expect(contents[0]).toEqual(contents[1])
    expect(own).toBe(wrangler)
  })

  test('of isola.jsonc is the same version as of wrangler.jsonc', async () => {
    const wrangler = temporaryProject({
      ...FILES,
      'wrangler.jsonc': JSON.stringify({
        name: 'site',
        compatibility_date: '2026-11-01',
        assets: { directory: 'public', not_found_handling: 'single-page-application' },
      }),
    })
    const isola = temporaryProject({
      ...FILES,
      'isola.jsonc': JSON.stringify({
        name: 'site',
        compatibilityDate: '2026-11-01',
        assets: { directory: 'public', notFoundHandling: 'single-page-application' },
      }),
    })
    expect(await isolaDeploy(isola)).toBe(await isolaDeploy(wrangler))
    const [version] = await place.registry.listVersions('site')
    const content = version?.content as WorkerContent | undefined
    expect(content?.assets?.config).toEqual({
      notFoundHandling: 'single-page-application',
      headers: HEADERS,
      redirects: REDIRECTS,
    })
  })

  test('is refused where a file of its manifest is not there, or the manifest is not spelled as it must be', async () => {
    const deploy = async (text: string): Promise<IsolaError> => {
      const [ref] = await place.client.uploadBlobs([{ name: 'm', kind: 'data', body: Buffer.from(text) }])
      const manifest = { sha256: ref?.sha256 ?? '', sizeBytes: ref?.sizeBytes ?? 0 }
      return failureOf(
        place.client.deploy('site', {
          kind: 'worker',
          mainModule: '',
          modules: [],
          bindings: [],
          compatibilityDate: '2026-11-01',
          compatibilityFlags: [],
          assets: { manifest, config: {} },
          routes: [],
          baseDomainHost: true,
          previewHosts: true,
        }),
      )
    }
    const sha256 = 'a'.repeat(64)
    const absent = await deploy(`{"files":{"/a.txt":{"sha256":"${sha256}","sizeBytes":1}}}`)
    expect(absent).toMatchObject({
      code: 'blob_missing',
      message: expect.stringMatching(/1 of 1 static files .*\/a\.txt/) as string,
    })
    for (const text of [
      'no json',
      '[]',
      `{"files":{"/../a":{"sha256":"${sha256}","sizeBytes":1}}}`,
      `{"files":{"/a":{"sha256":"x","sizeBytes":1}}}`,
      `{"files":{"/a":{"sha256":"${sha256}","sizeBytes":-1}}}`,
      `{"files":{"/a":{"sha256":"${sha256}","sizeBytes":1,"contentType":"a\\r\\nb"}}}`,
      `{"files": {"/a":{"sha256":"${sha256}","sizeBytes":1}}}`,
      `{"files":{"/b":{"sha256":"${sha256}","sizeBytes":1},"/a":{"sha256":"${sha256}","sizeBytes":1}}}`,
    ]) {
      expect(await deploy(text), text).toMatchObject({ code: 'invalid_argument' })
    }
  })
})
