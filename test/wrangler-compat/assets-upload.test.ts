import { createHash } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { AssetManifest, WorkerContent } from '../../sdk/model/function.ts'
import { ASSET_UPLOAD_LIMITS } from '../../sdk/model/limits.ts'
import { writeAssetToken } from '../../wrangler-compat/api/assets/asset-token.ts'
import { ACCOUNT_ID } from '../../wrangler-compat/api/ports.ts'
import {
  beginUpload,
  hashOf,
  manifestOf,
  sendBucket,
  UPLOAD,
  uploadAssets,
  type TestAssets,
} from '../harness/asset-client.ts'
import { TOKEN } from '../harness/control-place.ts'
import {
  openWranglerPlace,
  SCRIPTS,
  uploadForm,
  type Answer,
  type WranglerPlace,
} from '../harness/wrangler-place.ts'

let place: WranglerPlace

beforeEach(async () => {
  place = await openWranglerPlace()
})
afterEach(async () => {
  expect(place.faults).toEqual([])
  await place.close()
})

const HTML = 'text/html; charset=utf-8'
const SITE: TestAssets = {
  '/index.html': { body: '<h1>home</h1>', contentType: HTML },
  '/a b/ü.txt': { body: 'same', contentType: 'text/plain; charset=utf-8' },
  '/copy.txt': { body: 'same', contentType: 'text/plain; charset=utf-8' },
  '/empty.bin': { body: '', contentType: 'application/octet-stream' },
  '/.well-known/unknown': { body: Buffer.from([0, 255, 1, 254]) },
}

async function filesOf(content: WorkerContent): Promise<AssetManifest['files']> {
  const bytes = await place.registry.getBlob(content.assets?.manifest.sha256 ?? '')
  return (JSON.parse(Buffer.from(bytes).toString('utf8')) as AssetManifest).files
}

function deploy(jwt: string, config: unknown = {}, script = 'site'): Promise<Answer> {
  return place.call('PUT', `${SCRIPTS}/${script}`, uploadForm({ assets: { jwt, config } }, []))
}

async function newestContent(script = 'site'): Promise<WorkerContent> {
  const [version] = await place.registry.listVersions(script)
  return version?.content as WorkerContent
}

function refusal(code: number, message: RegExp): unknown {
  return expect.objectContaining({
    success: false,
    errors: [{ code, message: expect.stringMatching(message) as string }],
  })
}

async function session(assets: TestAssets): Promise<{ jwt: string; hashes: string[] }> {
  const { result } = await beginUpload(place, 'site', assets)
  const { jwt, buckets } = result as { jwt: string; buckets: string[][] }
  return { jwt, hashes: buckets.flat() }
}

describe('an upload of static files', () => {
  test('becomes the manifest of the version, with the types that were sent', async () => {
    const jwt = await uploadAssets(place, 'site', SITE)
    expect((await deploy(jwt)).success).toBe(true)
    const content = await newestContent()
    expect(content).toMatchObject({ mainModule: '', modules: [], bindings: [] })
    const files = await filesOf(content)
    expect(Object.keys(files)).toEqual(Object.keys(SITE).sort())
    for (const [path, { body, contentType }] of Object.entries(SITE)) {
      const bytes = Buffer.from(body)
      expect(files[path]).toEqual({
        sha256: createHash('sha256').update(bytes).digest('hex'),
        sizeBytes: bytes.byteLength,
        ...(contentType !== undefined && { contentType }),
      })
      expect(Buffer.from(await place.registry.getBlob(files[path]?.sha256 ?? ''))).toEqual(bytes)
    }
  })

  test('asks for each hash once, and in a later upload only for what is new', async () => {
    const first = await session(SITE)
    expect(first.hashes.toSorted()).toEqual(
      [...new Set(Object.values(manifestOf(SITE)).map(({ hash }) => hash))].sort(),
    )
    await uploadAssets(place, 'site', SITE)
    const more = { ...SITE, '/new.txt': { body: 'new' } }
    expect((await session(more)).hashes).toEqual([hashOf('/new.txt', 'new')])
    // What another script sent is found as well.
    const other = await beginUpload(place, 'other', SITE)
    expect(other.result).toMatchObject({ buckets: [] })
    expect((await deploy((other.result as { jwt: string }).jwt, {}, 'other')).success).toBe(true)
  })

  test('without a file is complete at once', async () => {
    const { result } = await beginUpload(place, 'site', {})
    expect(result).toMatchObject({ buckets: [] })
    expect((await deploy((result as { jwt: string }).jwt)).success).toBe(true)
    expect(await filesOf(await newestContent())).toEqual({})
  })

  test('goes on after the node forgot its session, file by file in any order', async () => {
    const { jwt, hashes } = await session(SITE)
    const answers: Answer[] = []
    for (const hash of hashes.toReversed()) {
      // Other lists push the session out of memory.
      for (let other = 0; other <= ASSET_UPLOAD_LIMITS.sessionsKeptMax; other++) {
        await beginUpload(place, 'other', { [`/${hash}-${other}`]: { body: 'x' } })
      }
      answers.push(await sendBucket(place, { jwt, hashes: [hash], assets: SITE }))
    }
    expect(answers.slice(0, -1).map(({ result }) => result as unknown)).toEqual(
      answers.slice(0, -1).map(() => ({})),
    )
    const { jwt: completion } = (answers.at(-1) as Answer).result as { jwt: string }
    expect((await deploy(completion)).success).toBe(true)
  })

  test('may be sent raw, one file a request', async () => {
    const { jwt, hashes } = await session(SITE)
    let completion: string | undefined
    for (const hash of hashes) {
      const [, asset] = Object.entries(SITE).find(([path, { body }]) => hashOf(path, body) === hash) ?? []
      const answer = await place.call('POST', `${UPLOAD}/${hash}`, Buffer.from(asset?.body ?? ''), {
        headers: { authorization: `Bearer ${jwt}`, 'content-type': asset?.contentType ?? 'application/null' },
      })
      completion = (answer.result as { jwt?: string }).jwt
    }
    expect((await deploy(completion ?? '')).success).toBe(true)
    expect((await filesOf(await newestContent()))['/index.html']?.contentType).toBe(HTML)
    expect((await filesOf(await newestContent()))['/.well-known/unknown']).not.toHaveProperty('contentType')
  })

  test('of many and of large files is asked for in groups that one request carries', async () => {
    const count = ASSET_UPLOAD_LIMITS.bucketFilesMax + 1
    const small = Object.fromEntries(
      Array.from({ length: count }, (_, index) => [`/${index}.txt`, { body: `${index}` }]),
    )
    const { result } = await beginUpload(place, 'site', small)
    expect((result as { buckets: string[][] }).buckets.map(({ length }) => length)).toEqual([count - 1, 1])
    const sizes = [9, 3, 5, 1].map((mib, index) => [
      `/${index}.bin`,
      { hash: `${index}`.repeat(32), size: mib * 1024 * 1024 },
    ])
    const large = await place.call('POST', `${SCRIPTS}/site/assets-upload-session`, {
      manifest: Object.fromEntries(sizes),
    })
    expect(
      (large.result as { buckets: string[][] }).buckets.map((hashes) => hashes.map((hash) => hash[0])),
    ).toEqual([['0'], ['1', '2'], ['3']])
  })

  test('of a file of the largest size arrives whole', async () => {
    const body = Buffer.alloc(ASSET_UPLOAD_LIMITS.fileBytesMax, 'isola ')
    const jwt = await uploadAssets(place, 'site', { '/large.bin': { body } })
    expect((await deploy(jwt)).success).toBe(true)
    expect((await filesOf(await newestContent()))['/large.bin']?.sizeBytes).toBe(body.byteLength)
  })

  test('of a dispatched script is for that namespace only', async () => {
    const path = `/accounts/${ACCOUNT_ID}/workers/dispatch/namespaces/ns/scripts/site/assets-upload-session`
    const { result } = await place.call('POST', path, { manifest: {} })
    expect(await deploy((result as { jwt: string }).jwt)).toEqual(
      refusal(10021, /"site" of the dispatch namespace "ns"/),
    )
  })

  test('takes the configuration, without what is the default anyway', async () => {
    const jwt = await uploadAssets(place, 'site', SITE)
    await deploy(jwt, {
      html_handling: 'auto-trailing-slash',
      not_found_handling: 'none',
      run_worker_first: false,
      later: 1,
    })
    expect((await newestContent()).assets?.config).toEqual({})
    await deploy(jwt, {
      html_handling: 'none',
      not_found_handling: '404-page',
      _redirects: '/a /b 301\n',
      _headers: '/*\n  X-A: 1\n',
    })
    const contents = (await place.registry.listVersions('site')).map(
      ({ content }) => content as WorkerContent,
    )
    expect(contents.map(({ assets }) => assets?.config)).toContainEqual({
      htmlHandling: 'none',
      notFoundHandling: '404-page',
      redirects: '/a /b 301\n',
      headers: '/*\n  X-A: 1\n',
    })
  })
})

describe('a list of static files is refused', () => {
  const hash = 'a'.repeat(32)
  const announce = (manifest: unknown): Promise<Answer> =>
    place.call('POST', `${SCRIPTS}/site/assets-upload-session`, { manifest })

  test.each([
    ['../up', /does not begin with/],
    ['/a/../../etc/passwd', /segment "\.\."/],
    ['/./a', /segment "\."/],
    ['/a//b', /segment ""/],
    ['/', /segment ""/],
    ['/a\u0000b', /control character/],
    ['/a\r\nb', /control character/],
    [`/${'x'.repeat(1_024)}`, /more than the 1024 bytes/],
    ['__proto__', /does not begin with/],
  ])('with the path %j', async (path, message) => {
    const body = JSON.stringify({ manifest: { ok: 0 } }).replace(
      '"ok":0',
      `${JSON.stringify(path)}:{"hash":"${hash}","size":1}`,
    )
    const answer = await place.call('POST', `${SCRIPTS}/site/assets-upload-session`, body)
    expect(answer).toEqual(refusal(10001, message))
    expect(answer.status).toBe(400)
  })

  test('with hashes and sizes that are none, and all of them are named', async () => {
    expect(await announce({ '/a': { hash: 'xyz', size: 1 } })).toEqual(refusal(10001, /"\/a" has no "hash"/))
    expect(await announce({ '/a': { hash: hash.toUpperCase(), size: 1 } })).toEqual(
      refusal(10001, /no "hash"/),
    )
    for (const size of [-1, 0.5, '1', null]) {
      expect(await announce({ '/a': { hash, size } })).toEqual(refusal(10001, /"\/a" has no "size"/))
    }
    expect(await announce({ '/a': null, '/b': 1 })).toEqual(
      refusal(10001, /"\/a" has no "hash".*"\/b" has no "hash"/),
    )
    const size = ASSET_UPLOAD_LIMITS.fileBytesMax + 1
    expect(await announce({ '/a': { hash, size } })).toEqual(
      refusal(10001, /26214401 bytes, more than the 26214400/),
    )
  })

  test('with one hash for different files', async () => {
    // Base64 and extension run into each other: an empty file "x.abcd" and three bytes without an extension are hashed alike.
    const body = Buffer.from('abcd', 'base64')
    expect(hashOf('/x.abcd', '')).toBe(hashOf('/x', body))
    expect(await beginUpload(place, 'site', { '/x.abcd': { body: '' }, '/x': { body } })).toEqual(
      refusal(10001, /hash \w+ of another file/),
    )
    await uploadAssets(place, 'site', { '/x.abcd': { body: '' } })
    expect((await session({ '/x': { body } })).hashes).toHaveLength(1)
  })

  test('that has too many files, or is no list', async () => {
    const many = Object.fromEntries(
      Array.from({ length: ASSET_UPLOAD_LIMITS.filesMax + 1 }, (_, index) => [
        `/${index}`,
        { hash, size: 1 },
      ]),
    )
    expect(await announce(many)).toEqual(refusal(10001, /20001 static files are more than the 20000/))
    for (const manifest of [undefined, null, [], 'x']) {
      expect(await announce(manifest)).toEqual(refusal(10001, /no "manifest"/))
    }
    expect(await place.call('POST', `${SCRIPTS}/site/assets-upload-session`, '{"manifest":')).toEqual(
      refusal(10001, /is not JSON/),
    )
    const long = await place.call(
      'POST',
      `${SCRIPTS}/site/assets-upload-session`,
      Buffer.alloc(ASSET_UPLOAD_LIMITS.manifestBytesMax + 1, ' '),
    )
    expect(long.status).toBe(413)
  })

  test('for a name that no Worker can have, and without the node’s token', async () => {
    const bad = await place.call('POST', `${SCRIPTS}/No_Good/assets-upload-session`, { manifest: {} })
    expect(bad).toEqual(refusal(10021, /"No_Good" is not usable/))
    const init = { headers: { authorization: 'Bearer wrong' } }
    const foreign = await place.call('POST', `${SCRIPTS}/site/assets-upload-session`, { manifest: {} }, init)
    expect(foreign).toEqual(refusal(10000, /Authentication error/))
  })
})

describe('a file is refused', () => {
  const send = (jwt: string, hash: string, body: string, type = 'text/plain'): Promise<Answer> => {
    const form = new FormData()
    form.append(hash, new File([body], hash, { type }), hash)
    return place.call('POST', `${UPLOAD}?base64=true`, form, { headers: { authorization: `Bearer ${jwt}` } })
  }
  const base64 = (text: string): string => Buffer.from(text).toString('base64')

  test('whose bytes are not those of its hash, or of the announced size, and nothing is kept of it', async () => {
    const { jwt, hashes } = await session({ '/a.txt': { body: 'right' } })
    const [hash = ''] = hashes
    expect(await send(jwt, hash, base64('wrong'))).toEqual(refusal(10001, /whose hash is \w{32}/))
    expect(await send(jwt, hash, base64('longer than right'))).toEqual(
      refusal(10001, /more than the 5 bytes/),
    )
    expect(await send(jwt, hash, base64('r'))).toEqual(refusal(10001, /has 1 bytes and the manifest says 5/))
    for (const none of ['%%%%', '']) {
      expect(await send(jwt, hash, none)).toEqual(refusal(10001, /has 0 bytes/))
    }
    expect(await send(jwt, hash, base64('right!'))).toEqual(refusal(10001, /more than the 5 bytes/))
    expect(await place.registry.getAsset(hash)).toBeUndefined()
    expect((await send(jwt, hash, base64('right'))).result).toMatchObject({
      jwt: expect.any(String) as string,
    })
  })

  test('that was not announced', async () => {
    const { jwt } = await session({ '/a.txt': { body: 'a' } })
    expect(await send(jwt, hashOf('/b.txt', 'b'), base64('b'))).toEqual(refusal(10001, /not in the list/))
    expect(await send(jwt, '../../x', base64('b'))).toEqual(refusal(10001, /not in the list/))
  })

  test('of a content type that no header can carry', async () => {
    const { jwt, hashes } = await session({ '/a.txt': { body: 'a' } })
    const answer = await place.call('POST', `${UPLOAD}/${hashes[0]}`, 'a', {
      headers: { authorization: `Bearer ${jwt}`, 'content-type': 'no type' },
    })
    expect(answer).toEqual(refusal(10001, /content type "no type"/))
  })

  test('in a body that is no form, is cut off, or has heads without end', async () => {
    const { jwt, hashes } = await session({ '/a.txt': { body: 'a' } })
    const post = (body: string, type: string): Promise<Answer> =>
      place.call('POST', `${UPLOAD}?base64=true`, body, {
        headers: { authorization: `Bearer ${jwt}`, 'content-type': type },
      })
    const form = 'multipart/form-data; boundary=xyz'
    expect(await post('a', 'text/plain')).toEqual(refusal(10001, /not a form/))
    expect(await post('nothing', form)).toEqual(refusal(10001, /ended early/))
    expect(await post('--xyz\r\ncontent-disposition: form-data\r\n\r\nYQ==\r\n--xyz--', form)).toEqual(
      refusal(10001, /has no name/),
    )
    expect(await post(`--xyz\r\na: ${'b'.repeat(9_000)}`, form)).toEqual(refusal(10001, /head of a part/))
    expect(await post('--xyzQQ', form)).toEqual(refusal(10001, /neither a part nor the end/))
    const part = `--xyz\r\ncontent-disposition: form-data; name="${hashes[0]}"; filename="x"\r\n\r\nYQ`
    expect(await post(part, form)).toEqual(refusal(10001, /ended early/))
    const plain = await place.call('POST', UPLOAD, new FormData(), {
      headers: { authorization: `Bearer ${jwt}` },
    })
    expect(plain).toEqual(refusal(10001, /base64=true/))
    expect((await post(`preamble\r\n${part}==\r\n--xyz--\r\nepilogue`, form)).status).toBe(201)
  })

  test('with another token than a session’s of this node, or after its time', async () => {
    const { hashes } = await session({ '/a.txt': { body: 'a' } })
    const [hash = ''] = hashes
    const owner = { account: ACCOUNT_ID, script: 'site' }
    const list = { sha256: 'a'.repeat(64), sizeBytes: 1 }
    const token = (kind: 'session' | 'completion', key = TOKEN, ageMs = 0): string =>
      writeAssetToken({ kind, owner, manifest: list }, { key, nowMs: Date.now() - ageMs })
    for (const forged of [
      TOKEN,
      'a.b.c',
      token('session', 'other key'),
      token('session').replace(/^[^.]+/, 'e30'),
    ]) {
      const answer = await send(forged, hash, base64('a'))
      expect(answer).toEqual(refusal(10000, /Authentication error/))
      expect(answer.status).toBe(401)
    }
    const late = await send(token('session', TOKEN, ASSET_UPLOAD_LIMITS.sessionMs + 1_000), hash, base64('a'))
    expect(late).toEqual(refusal(10001, /took longer than/))
    expect(await send(token('completion'), hash, base64('a'))).toEqual(refusal(10001, /all there already/))
    expect(await send(token('session'), hash, base64('a'))).toEqual(
      refusal(10001, /list of this upload is not there/),
    )
  })
})

describe('a version is refused', () => {
  test('with a token that does not stand for its files', async () => {
    const jwt = await uploadAssets(place, 'other', { '/a.txt': { body: 'a' } })
    expect(await deploy(jwt)).toEqual(refusal(10021, /uploaded for the Worker "other"/))
    const { jwt: open } = await session({ '/b.txt': { body: 'b' } })
    expect(await deploy(open)).toEqual(refusal(10021, /not all static files are uploaded/))
    expect(await deploy('x')).toEqual(refusal(10021, /no token of this node/))
    expect(await deploy('')).toEqual(refusal(10021, /has no "jwt"/))
    const owner = { account: ACCOUNT_ID, script: 'site' }
    const manifest = { sha256: 'b'.repeat(64), sizeBytes: 1 }
    const made = (ageMs: number): string =>
      writeAssetToken({ kind: 'completion', owner, manifest }, { key: TOKEN, nowMs: Date.now() - ageMs })
    expect(await deploy(made(ASSET_UPLOAD_LIMITS.sessionMs + 1_000))).toEqual(refusal(10021, /is older than/))
    expect(await deploy(made(0))).toEqual(refusal(10021, /not there any more/))
    expect(place.registry.head.functions).toEqual({})
  })

  test('with a configuration that means nothing', async () => {
    const jwt = await uploadAssets(place, 'site', { '/a.txt': { body: 'a' } })
    const refused = async (config: unknown, message: RegExp): Promise<void> =>
      expect(await deploy(jwt, config)).toEqual(refusal(10021, message))
    await refused({ html_handling: 'maybe' }, /assets\.config\.html_handling/)
    await refused({ run_worker_first: ['api/*'] }, /rule "api\/\*"/)
    await refused({ run_worker_first: ['!/api/*'] }, /only rules with "!"/)
    await refused({ run_worker_first: true }, /no code to run/)
    await refused({ base_path: '/docs' }, /base_path/)
    await refused({ _headers: 'x'.repeat(ASSET_UPLOAD_LIMITS.rulesFileBytesMax + 1) }, /_headers has more/)
    await refused({ run_worker_first: Array.from({ length: 101 }, () => '/a') }, /101 rules/)
  })
})
