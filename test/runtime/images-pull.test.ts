/** Against a registry of our own: the engine takes one on 127.0.0.1 without TLS. */
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createImageStore, type ImageStore } from '../../runtime/container/image-store.ts'
import { describeEngine, openEngine, type EnginePlace } from '../harness/engine.ts'
import { savedImage } from '../harness/image-archives.ts'

const MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json'
/** With characters whose base64 needs padding and has what URLs do not take. */
const USER = { username: 'ann', password: 'ÿ>?~open sesame' }

describeEngine('pulling an image', () => {
  let place: EnginePlace
  let store: ImageStore
  let server: Server
  let registry: string
  let saved: Record<string, Buffer>
  const authorizations = new Set<string>()
  /** By path below /v2/. */
  const answers = new Map<string, { readonly type: string; readonly body: Buffer }>()

  beforeAll(async () => {
    place = await openEngine()
    await place.image()
    saved = await savedImage(place.socketPath, place.imageReference)
    store = createImageStore({ engine: place.engine, isolationName: place.isolationName, unusedKeptMs: -1 })
    server = createServer((request, response) => {
      const { authorization } = request.headers
      if (authorization !== undefined) authorizations.add(authorization)
      const wanted = Buffer.from(`${USER.username}:${USER.password}`).toString('base64')
      if (authorization !== `Basic ${wanted}`) {
        response.writeHead(401, { 'www-authenticate': 'Basic realm="test"' }).end('{"errors":[]}')
        return
      }
      if (request.url === '/v2/') return void response.end('{}')
      const answer = answers.get(request.url?.slice('/v2/'.length) ?? '')
      if (answer === undefined) {
        const errors = [{ code: 'MANIFEST_UNKNOWN', message: 'manifest unknown' }]
        response.writeHead(404, { 'content-type': 'application/json' }).end(JSON.stringify({ errors }))
        return
      }
      const digest = `sha256:${createHash('sha256').update(answer.body).digest('hex')}`
      response.writeHead(200, {
        'content-type': answer.type,
        'content-length': answer.body.length,
        'docker-content-digest': digest,
      })
      response.end(request.method === 'HEAD' ? undefined : answer.body)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    registry = `127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  afterAll(async () => {
    await store.collect(new Set(), { bytesMax: 1024 ** 4 })
    server.closeAllConnections()
    server.close()
    await place.close()
  })

  /** The image of the place with another configuration. Returns the digest of its manifest. */
  function publish(name: string, change: object): string {
    const blob = (content: Buffer): { digest: string; size: number } => {
      const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`
      answers.set(`${name}/blobs/${digest}`, { type: 'application/octet-stream', body: content })
      return { digest, size: content.length }
    }
    const [{ Config, Layers }] = JSON.parse(String(saved['manifest.json'])) as [
      { Config: string; Layers: string[] },
    ]
    const config = { ...(JSON.parse(String(saved[Config])) as object), ...change, created: new Date(0) }
    const body = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: MANIFEST,
        config: {
          mediaType: 'application/vnd.docker.container.image.v1+json',
          ...blob(Buffer.from(JSON.stringify(config))),
        },
        layers: Layers.map((path) => ({
          mediaType: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
          ...blob(gzipSync(saved[path]!)),
        })),
      }),
    )
    const digest = `sha256:${createHash('sha256').update(body).digest('hex')}`
    for (const reference of ['latest', digest]) {
      answers.set(`${name}/manifests/${reference}`, { type: MANIFEST, body })
    }
    return digest
  }
  const pull = (reference: string, user: Partial<typeof USER> = USER, texts: string[] = []) =>
    store.pull({ reference, ...user, onText: (text) => texts.push(text) })

  test('with its credentials it comes, by tag or by digest, and is kept by its digest alone', async () => {
    const name = `test/${randomBytes(4).toString('hex')}`
    const digest = publish(name, { author: name })
    const texts: string[] = []
    const byTag = await pull(`${registry}/${name}`, USER, texts)
    expect(texts.join('')).toMatch(/Pulling from test/)
    expect((await place.engine.inspectImage(byTag.imageId))?.references).toEqual([
      `isola-function:${place.isolationName}.${byTag.imageId.slice('sha256:'.length)}`,
    ])
    expect((await pull(`${registry}/${name}@${digest}`)).imageId).toBe(byTag.imageId)
  })

  test('what the registry refuses, or does not have, is said in its words', async () => {
    const reference = `${registry}/test/${randomBytes(4).toString('hex')}`
    await expect(pull(reference)).rejects.toMatchObject({
      code: 'image_not_found',
      message: expect.stringMatching(new RegExp(`${reference}.*manifest`)) as string,
    })
    const before = authorizations.size
    await expect(pull(reference, { ...USER, password: 'wrong' })).rejects.toMatchObject({
      message: expect.stringMatching(/auth|unauthorized/) as string,
    })
    expect(authorizations.size).toBe(before + 1)
    await expect(pull(reference, {})).rejects.toMatchObject({
      message: expect.stringMatching(/auth|unauthorized/) as string,
    })
  })

  test('one for another architecture is refused with both names, and is gone again', async () => {
    const name = `test/${randomBytes(4).toString('hex')}`
    const { architecture } = await place.engine.info()
    const other = architecture === 'amd64' ? 'arm64' : 'amd64'
    publish(name, { author: name, architecture: other })
    await expect(pull(`${registry}/${name}`)).rejects.toMatchObject({
      code: 'image_unusable',
      message: expect.stringMatching(new RegExp(`${other}.*${architecture}`)) as string,
    })
    expect(await place.engine.inspectImage(`${registry}/${name}`)).toBeUndefined()
  })
})
