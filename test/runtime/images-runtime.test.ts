import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Engine } from '../../runtime/container/engine.ts'
import { createImageStore } from '../../runtime/container/image-store.ts'
import { createRuntimeImages, type RuntimeImages } from '../../runtime/container/runtime-images.ts'
import { describeEngine, openEngine, type EnginePlace } from '../harness/engine.ts'
import { inPieces, tarOf } from '../harness/image-archives.ts'

/** The images themselves stay: whoever else works on this machine has the same. */
describeEngine('images that isola makes', () => {
  let place: EnginePlace
  let images: RuntimeImages
  beforeAll(async () => {
    place = await openEngine()
    images = createRuntimeImages({ engine: place.engine })
  })
  afterAll(() => place.close())

  /** The engine as it would be with nobody else's images. */
  function onlyOwn(): Engine {
    const { engine, labels } = place
    return { ...engine, listImages: (wanted) => engine.listImages({ ...wanted, ...labels }) }
  }

  /** As functions run: no network, no way to write but to /tmp, no rights. */
  async function outputOf(imageId: string, command: readonly string[]): Promise<string> {
    const id = await place.engine.createContainer(
      `isola-${place.isolationName}-${randomBytes(4).toString('hex')}`,
      {
        Image: imageId,
        Entrypoint: command,
        Labels: place.labels,
        HostConfig: {
          NetworkMode: 'none',
          CapDrop: ['ALL'],
          SecurityOpt: ['no-new-privileges'],
          ReadonlyRootfs: true,
          Tmpfs: { '/tmp': 'size=16m' },
        },
      },
    )
    await place.engine.startContainer(id)
    const texts: string[] = []
    await place.engine.readOutput(id, { sinceMs: 0, onLine: ({ text }) => texts.push(text) }).ended
    expect(texts).not.toEqual([])
    return texts.join('\n')
  }

  test('nodejs24 runs the node that isola runs, as a user of its own, with certificates and a shell', async () => {
    const { imageId } = await images.runtimeImage('nodejs24')
    const text = await outputOf(imageId, [
      'node',
      '-e',
      `const { execSync } = require('node:child_process'); const fs = require('node:fs')
       fs.writeFileSync('/tmp/x', 'written')
       const certificates = fs.readFileSync(process.env.SSL_CERT_FILE, 'utf8').match(/BEGIN CERTIFICATE/g).length
       console.log(JSON.stringify({ version: process.version, uid: os.userInfo().uid, user: os.userInfo().username,
         cwd: process.cwd(), certificates, shell: String(execSync('cat /tmp/x; ls /opt/isola')) }))`,
    ])
    const seen = JSON.parse(text) as Record<string, unknown>
    expect(seen).toMatchObject({ version: process.version, uid: 64_000, user: 'function', cwd: '/var/task' })
    expect(seen['certificates']).toBeGreaterThan(50)
    expect(seen['shell']).toMatch(/^written[\s\S]*node/)
    expect(await place.engine.inspectImage(imageId)).toMatchObject({
      entryPoint: ['node', '/opt/isola/node/client.js'],
      labels: { 'isola.image': 'runtime' },
      user: '64000:64000',
    })
  })

  test('python3 has its standard library, compiled, with what that is linked with', async () => {
    const { imageId } = await images.runtimeImage('python3')
    const text = await outputOf(imageId, [
      'python3',
      '-c',
      `
import asyncio, bz2, ctypes, decimal, hashlib, http.client, json, lzma, os, pwd, sqlite3, ssl, sys, urllib.request, uuid, zlib, zoneinfo
import json.decoder as compiled
print(json.dumps({
  "version": sys.version_info[0], "user": pwd.getpwuid(os.getuid()).pw_name,
  "authorities": ssl.create_default_context().cert_store_stats()["x509_ca"],
  "zone": str(zoneinfo.ZoneInfo("Europe/Rome")),
  "sql": sqlite3.connect(":memory:").execute("select 1 + 1").fetchone()[0],
  "isCompiled": os.path.exists(compiled.__cached__), "path": [p for p in sys.path if "packages" in p],
}))`,
    ])
    const seen = JSON.parse(text) as Record<string, unknown>
    expect(seen).toMatchObject({
      version: 3,
      user: 'function',
      zone: 'Europe/Rome',
      sql: 2,
      isCompiled: true,
    })
    expect(seen['authorities']).toBeGreaterThan(50)
    expect(seen['path']).toEqual([])
  })

  test('the sandbox has workerd', async () => {
    const { imageId } = await images.sandboxImage()
    expect(await outputOf(imageId, ['workerd', '--version'])).toMatch(/^workerd 20\d\d-/)
    expect((await place.engine.inspectImage(imageId))?.labels).toEqual({ 'isola.image': 'sandbox' })
  })

  test('those who need one at once get the same, and so does who comes later in another process', async () => {
    const one = createRuntimeImages({ engine: place.engine })
    const other = createRuntimeImages({ engine: place.engine })
    const made = await Promise.all([one.runtimeImage('nodejs24'), one.runtimeImage('nodejs24')])
    made.push(await other.runtimeImage('nodejs24'))
    expect(new Set(made.map(({ imageId }) => imageId)).size).toBe(1)
  })

  test('collecting removes what was replaced, and keeps what is in use and what is built from it', async () => {
    const { engine, isolationName } = place
    const { imageId } = await images.runtimeImage('nodejs24')
    const reference = `isola-runtime-nodejs24:${isolationName}`
    const old = await engine.importImage({
      tar: inPieces(await tarOf({ 'etc/old': isolationName })),
      reference,
      changes: ['LABEL isola.image=runtime', `LABEL isola.node=${isolationName}`],
    })
    const built = await engine.importImage({
      tar: inPieces(await tarOf({ 'etc/built': isolationName })),
      reference: `isola-${isolationName}:built`,
      changes: ['LABEL isola.image=runtime', `LABEL isola.node=${isolationName}`],
    })
    // As if it had been there for an hour; what others on this machine have is younger.
    const collecting = createRuntimeImages({ engine: onlyOwn(), unusedKeptMs: -1 })
    await collecting.collect()
    expect(await engine.inspectImage(old)).toBeUndefined()
    expect(await engine.inspectImage(built)).toBeDefined()
    await images.collect()
    expect(await engine.inspectImage(imageId)).toBeDefined()
  })

  test('an operator’s base image gets isola’s client, and nothing else of it changes', async () => {
    const base = `isola-${place.isolationName}:base`
    await place.engine.tagImage(await place.image(), base)
    const named = createRuntimeImages({ engine: place.engine, baseImages: { nodejs24: base } })
    const { imageId } = await named.runtimeImage('nodejs24')
    const image = await place.engine.inspectImage(imageId)
    expect(image?.environment).toEqual(['PATH=/bin'])
    expect(image?.entryPoint).toEqual(['node', '/opt/isola/node/client.js'])
    expect(await outputOf(imageId, ['/bin/ls', '/opt/isola/node'])).toContain('client.js')
    expect((await named.runtimeImage('nodejs24')).imageId).toBe(imageId)
  })

  test('an operator’s base image that is nowhere is an error that names it', async () => {
    const baseImages = { python3: '127.0.0.1:1/no-such-base:1' }
    const named = createRuntimeImages({ engine: place.engine, baseImages })
    for (let attempt = 0; attempt < 2; attempt++) {
      await expect(named.runtimeImage('python3')).rejects.toMatchObject({
        message: expect.stringContaining('127.0.0.1:1/no-such-base:1') as string,
      })
    }
  })

  test('a Dockerfile may begin with a runtime’s image, which is there when it is built', async () => {
    const { engine, isolationName } = place
    const store = createImageStore({ engine, isolationName, runtimeImages: images, unusedKeptMs: -1 })
    const dockerfile = 'FROM isola-runtime-nodejs24\nRUN node -e "console.log(6 * 7)"\nCOPY app.js /app.js\n'
    const texts: string[] = []
    const { imageId } = await store.build({
      tar: inPieces(await tarOf({ Dockerfile: dockerfile, 'app.js': 'console.log("from the app")' })),
      onText: (text) => texts.push(text),
    })
    expect(texts.join('')).toMatch(/^42$/m)
    expect(await outputOf(imageId, ['node', '/app.js'])).toBe('from the app')
    for (const { id } of await engine.listContainers(place.labels)) await engine.removeContainer(id)
    await store.collect(new Set(), { bytesMax: 1024 ** 4 })
  })
})
