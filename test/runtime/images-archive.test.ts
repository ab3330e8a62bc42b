import { gzipSync, zstdCompressSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { readImageArchive } from '../../runtime/container/image-archive.ts'
import { ENGINE_LIMITS } from '../../sdk/model/limits.ts'
import { filesOf, inPieces, layoutOf, tarOf } from '../harness/image-archives.ts'

const BYTES_MAX = 64 * 1024 * 1024
const CONFIG = { os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: ['sha256:0'] } }
const LAYER = Buffer.alloc(100_000, 0x42)

function saved(config: object = CONFIG, manifest?: unknown): Record<string, Buffer> {
  const entries = [{ Config: 'c.json', RepoTags: ['isola-runtime-nodejs24:latest'], Layers: ['a/layer.tar'] }]
  return {
    'c.json': Buffer.from(JSON.stringify(config)),
    'a/layer.tar': LAYER,
    'manifest.json': Buffer.from(JSON.stringify(manifest ?? entries)),
    repositories: Buffer.from('{"isola-runtime-nodejs24":{"latest":"a"}}'),
  }
}

async function read(archive: Buffer, bytesMax = BYTES_MAX): Promise<Record<string, Buffer>> {
  return await filesOf(readImageArchive(inPieces(archive), { architecture: 'amd64', bytesMax }))
}

function refused(message: RegExp, code = 'image_unusable'): Error {
  return expect.objectContaining({ code, message: expect.stringMatching(message) as string }) as Error
}

describe('an image archive', () => {
  test('keeps its layers and loses its names, so that it cannot take the place of another image', async () => {
    const files = await read(await tarOf(saved()))
    expect(Object.keys(files).sort()).toEqual(['a/layer.tar', 'c.json', 'manifest.json'])
    expect(files['a/layer.tar']?.equals(LAYER)).toBe(true)
    expect(JSON.parse(String(files['manifest.json']))).toEqual([
      { Config: 'c.json', RepoTags: null, Layers: ['a/layer.tar'] },
    ])
  })

  test.for([
    ['gzip', gzipSync],
    ['zstd', zstdCompressSync],
  ] as const)('may be compressed with %s', async ([, compress]) => {
    const files = await read(compress(await tarOf(saved())))
    expect(files['a/layer.tar']?.equals(LAYER)).toBe(true)
  })

  test('that is an OCI layout gets the manifest that engines look for, for the engine’s architecture', async () => {
    const layout = layoutOf(saved(), [
      { os: 'linux', architecture: 'arm64' },
      { os: 'linux', architecture: 'amd64' },
      { os: 'unknown', architecture: 'unknown' },
    ])
    const files = await read(await tarOf(layout))
    const [manifest] = JSON.parse(String(files['manifest.json'])) as [{ Config: string; Layers: string[] }]
    expect(JSON.parse(String(files[manifest.Config]))).toEqual(CONFIG)
    expect(files[manifest.Layers[0] ?? '']?.equals(LAYER)).toBe(true)
    expect(Object.keys(files)).not.toContain('index.json')
  })

  test('of another architecture is refused with both names, as it comes', async () => {
    const foreign = await tarOf(saved({ ...CONFIG, architecture: 'arm64' }))
    await expect(read(foreign)).rejects.toEqual(refused(/for arm64.*amd64/))
    const layout = layoutOf(saved(), [{ os: 'linux', architecture: 'riscv64' }])
    await expect(read(await tarOf(layout))).rejects.toEqual(refused(/linux\/riscv64.*amd64/))
    const windows = await tarOf(saved({ ...CONFIG, os: 'windows' }))
    await expect(read(windows)).rejects.toEqual(refused(/windows.*linux/))
  })

  test.for([
    ['nothing', Buffer.alloc(0), /neither a manifest/],
    ['no tar', Buffer.alloc(4_096, 0x41), /broken/],
    ['xz', Buffer.from('fd377a585a000000', 'hex'), /compressed with xz/],
    ['bzip2', Buffer.from('425a683931415926', 'hex'), /compressed with bzip2/],
    ['broken gzip', Buffer.from('1f8b080000000000ffffff', 'hex'), /broken/],
  ] as const)('that is %s is refused', async ([, archive, message]) => {
    await expect(read(archive)).rejects.toEqual(refused(message))
  })

  test('that is cut off is refused', async () => {
    const whole = await tarOf(saved())
    await expect(read(whole.subarray(0, 50_000))).rejects.toEqual(refused(/broken/))
    await expect(read(gzipSync(whole).subarray(0, 300))).rejects.toEqual(refused(/broken/))
    // A layer that is too large to be held goes on while it comes.
    const large = await tarOf({ ...saved(), 'a/layer.tar': Buffer.alloc(5 * 1024 * 1024, 0x42) })
    await expect(read(large.subarray(0, 4_600_000))).rejects.toEqual(refused(/broken.*again/))
  })

  test.for([
    ['no image', [], /0 images/],
    ['two images', [{}, {}], /2 images/],
    ['no list', { a: 1 }, /0 images/],
    ['no configuration', [{ Layers: [] }], /names no configuration/],
    ['a configuration that is not there', [{ Config: 'x.json', Layers: [] }], /lacks x\.json/],
  ] as const)('whose manifest has %s is refused', async ([, manifest, message]) => {
    await expect(read(await tarOf(saved(CONFIG, manifest)))).rejects.toEqual(refused(message))
  })

  test('whose indexes name each other is refused', async () => {
    const index = (digest: string): Buffer =>
      Buffer.from(
        JSON.stringify({
          manifests: [{ mediaType: 'application/vnd.oci.image.index.v1+json', digest: `sha256:${digest}` }],
        }),
      )
    const [one, two] = ['1'.repeat(64), '2'.repeat(64)]
    const files = {
      'index.json': index(one),
      [`blobs/sha256/${one}`]: index(two),
      [`blobs/sha256/${two}`]: index(one),
    }
    await expect(read(await tarOf(files))).rejects.toEqual(refused(/name each other/))
  })

  test('that is larger than the bound is refused, also where only its content is', async () => {
    const large = await tarOf({ ...saved(), 'b/layer.tar': Buffer.alloc(300_000) })
    await expect(read(large, 200_000)).rejects.toEqual(refused(/200000/, 'body_too_large'))
    const compressed = gzipSync(large)
    expect(compressed.length).toBeLessThan(10_000)
    await expect(read(compressed, 200_000)).rejects.toEqual(refused(/200000/, 'body_too_large'))
  })

  test('with more documents than are kept in memory is refused', async () => {
    const document = Buffer.from(JSON.stringify({ text: 'x'.repeat(3 * 1024 * 1024) }))
    const count = Math.ceil(ENGINE_LIMITS.archiveDocumentsBytesMax / document.length) + 1
    const names = Array.from({ length: count }, (_, index) => [`${index}.json`, document] as const)
    await expect(read(await tarOf({ ...Object.fromEntries(names), ...saved() }))).rejects.toEqual(
      refused(/manifests and configurations/),
    )
  })

  test('that breaks off at its source says so in the words of the source', async () => {
    const whole = await tarOf(saved())
    const source = (async function* () {
      yield whole.subarray(0, 10_000)
      throw new Error('the client is gone')
    })()
    const reading = filesOf(readImageArchive(source, { architecture: 'amd64', bytesMax: BYTES_MAX }))
    await expect(reading).rejects.toEqual(refused(/the client is gone/))
  })
})
