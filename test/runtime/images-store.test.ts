import { randomBytes } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { createImageStore, type ImageStore } from '../../runtime/container/image-store.ts'
import { describeEngine, openEngine, type EnginePlace } from '../harness/engine.ts'
import { inPieces, layoutOf, savedImage, tarOf } from '../harness/image-archives.ts'

describeEngine('images of functions', () => {
  let place: EnginePlace
  let store: ImageStore
  let saved: Record<string, Buffer>
  let architecture: string
  const unique = randomBytes(8).toString('hex')
  const onText = (): void => undefined
  beforeAll(async () => {
    place = await openEngine()
    await place.image()
    saved = await savedImage(place.socketPath, place.imageReference)
    architecture = (await place.engine.info()).architecture
    store = createImageStore({ engine: place.engine, isolationName: place.isolationName, unusedKeptMs: -1 })
  })
  afterEach(() => store.collect(new Set(), { bytesMax: 1024 ** 4 }))
  afterAll(() => place.close())

  const kept = async (): Promise<readonly string[]> =>
    (await place.engine.listImagesNamed(`isola-function:${place.isolationName}.*`)).map(({ id }) => id)
  const build = async (text: string): Promise<string> => {
    const tar = inPieces(
      await tarOf({ Dockerfile: `FROM ${place.imageReference}\nENV X=${unique}${text}\n` }),
    )
    return (await store.build({ tar, onText })).imageId
  }
  /** The image of the place with another configuration: an image that nobody has. */
  const altered = (change: object): Record<string, Buffer> => {
    const [manifest] = JSON.parse(String(saved['manifest.json'])) as [{ Config: string }]
    const config = JSON.parse(String(saved[manifest.Config])) as object
    return { ...saved, [manifest.Config]: Buffer.from(JSON.stringify({ ...config, ...change })) }
  }
  const load = async (files: Record<string, Buffer>): Promise<string> =>
    (await store.load({ tar: inPieces(await tarOf(files)), onText })).imageId

  test('a built image is kept by its digest until no version names it', async () => {
    const one = await build('one')
    const two = await build('two')
    expect(await kept()).toEqual(expect.arrayContaining([one, two]))
    await store.collect(new Set([one]), { bytesMax: 1024 ** 4 })
    expect(await kept()).toEqual([one])
    expect(await place.engine.inspectImage(two)).toBeUndefined()
    await store.collect(new Set(), { bytesMax: 1024 ** 4 })
    expect(await kept()).toEqual([])
  })

  test('an image that has just come is kept for the deploy that is on its way', async () => {
    const { engine, isolationName } = place
    const id = await build('fresh')
    await createImageStore({ engine, isolationName }).collect(new Set(), { bytesMax: 1024 ** 4 })
    expect(await kept()).toEqual([id])
  })

  test('an image that a container uses is not removed, nor one of another node', async () => {
    const { engine, isolationName, labels } = place
    const id = await build('used')
    const container = await engine.createContainer(`isola-${isolationName}-user`, {
      Image: id,
      Entrypoint: ['/bin/sleep', '60'],
      Labels: labels,
      HostConfig: { NetworkMode: 'none' },
    })
    const other = createImageStore({ engine, isolationName: `${isolationName}-other`, unusedKeptMs: -1 })
    await other.collect(new Set(), { bytesMax: 1024 ** 4 })
    expect(await kept()).toEqual([id])
    await store.collect(new Set(), { bytesMax: 1024 ** 4 })
    expect(await engine.inspectImage(id)).toBeDefined()
    await engine.removeContainer(container)
  })

  test('an image as "docker save" writes it is loaded without its names, plain or compressed', async () => {
    const texts: string[] = []
    const archive = await tarOf(altered({ created: '2020-01-01T00:00:00Z' }))
    const summary = await store.load({ tar: inPieces(gzipSync(archive)), onText: (text) => texts.push(text) })
    expect(summary).toMatchObject({
      imageId: expect.stringMatching(/^sha256:[0-9a-f]{64}$/) as string,
      architecture,
    })
    expect(texts.join('')).toContain(summary.imageId)
    const image = await place.engine.inspectImage(summary.imageId)
    expect(image?.references).toEqual([
      `isola-function:${place.isolationName}.${summary.imageId.slice('sha256:'.length)}`,
    ])
    expect(image?.sizeBytes).toBe(summary.sizeBytes)
    // An old image that came just now.
    expect(image?.taggedAtMs).toBeGreaterThan(Date.parse('2025-01-01'))
    expect(await place.engine.inspectImage(place.imageReference)).toMatchObject({ id: await place.image() })
  })

  test('an OCI layout is loaded, and runs', async () => {
    const layout = layoutOf(altered({ created: '2021-01-01T00:00:00Z' }), [{ os: 'linux', architecture }])
    const id = await load(layout)
    const container = await place.engine.createContainer(`isola-${place.isolationName}-layout`, {
      Image: id,
      Entrypoint: ['/bin/sh', '-c', 'echo from the layout'],
      Labels: place.labels,
      HostConfig: { NetworkMode: 'none' },
    })
    await place.engine.startContainer(container)
    const texts: string[] = []
    await place.engine.readOutput(container, { sinceMs: 0, onLine: ({ text }) => texts.push(text) }).ended
    expect(texts).toEqual(['from the layout'])
    await place.engine.removeContainer(container)
  })

  test('an image for another architecture is refused with both names and leaves nothing behind', async () => {
    const other = architecture === 'amd64' ? 'arm64' : 'amd64'
    const before = await kept()
    await expect(load(altered({ architecture: other }))).rejects.toMatchObject({
      code: 'image_unusable',
      message: expect.stringMatching(new RegExp(`for ${other}.*runs ${architecture}`)) as string,
    })
    expect(await kept()).toEqual(before)
  })

  test('an image whose layer is no tar is refused in the engine’s words', async () => {
    const [manifest] = JSON.parse(String(saved['manifest.json'])) as [{ Layers: string[] }]
    // The engine does not read a layer that it has.
    const rootfs = { type: 'layers', diff_ids: [`sha256:${unique.padEnd(64, '0')}`] }
    const broken = {
      ...altered({ rootfs }),
      [manifest.Layers[0] ?? '']: Buffer.from('no tar'),
    }
    await expect(load(broken)).rejects.toMatchObject({ code: 'image_unusable' })
    expect(await kept()).toEqual([])
  })

  test('an archive of nothing is refused, and so is one beyond the bound', async () => {
    const { engine, isolationName } = place
    await expect(store.load({ tar: inPieces(Buffer.alloc(0)), onText })).rejects.toMatchObject({
      code: 'image_unusable',
    })
    const small = createImageStore({ engine, isolationName, bytesMax: 100_000 })
    const tar = await tarOf(saved)
    await expect(small.load({ tar: inPieces(tar), onText })).rejects.toMatchObject({ code: 'body_too_large' })
    const context = await tarOf({ Dockerfile: 'FROM scratch\n', data: Buffer.alloc(200_000) })
    await expect(small.build({ tar: inPieces(context), onText })).rejects.toMatchObject({
      code: 'body_too_large',
    })
  })

  test('an image that is larger than the bound when it is unpacked is removed again', async () => {
    const { engine, isolationName } = place
    const small = createImageStore({ engine, isolationName, bytesMax: 100_000 })
    const context = await tarOf({ Dockerfile: `FROM ${place.imageReference}\nENV LARGE=${unique}\n` })
    await expect(small.build({ tar: inPieces(context), onText })).rejects.toMatchObject({
      code: 'image_unusable',
      message: expect.stringContaining('100000 is the most') as string,
    })
    const images = await engine.listImages(place.labels)
    expect(images.filter(({ environment }) => environment.includes(`LARGE=${unique}`))).toEqual([])
  })

  test('a registry that is not there, and a reference that is none, say so', async () => {
    const pull = (reference: string): Promise<unknown> => store.pull({ reference, onText })
    await expect(pull('127.0.0.1:1/nothing:1')).rejects.toMatchObject({
      code: 'image_unusable',
      message: expect.stringMatching(/127\.0\.0\.1:1.*refused/) as string,
    })
    await expect(pull('UPPER/case')).rejects.toMatchObject({ code: 'image_unusable' })
    await expect(pull('a/../../containers')).rejects.toMatchObject({ code: 'invalid_argument' })
  })

  test('a build that its client leaves before it begins is not begun', async () => {
    const tar = inPieces(await tarOf({ Dockerfile: `FROM ${place.imageReference}\n` }))
    const signal = AbortSignal.abort()
    await expect(store.build({ tar, onText, signal })).rejects.toThrow(/abort/i)
    expect(await kept()).toEqual([])
  })
})
