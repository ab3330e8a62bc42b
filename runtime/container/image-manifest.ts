/** What the documents of an image archive say: of `docker save`'s, and of an OCI layout (image-spec 1.1, image-layout.md). */
import { IsolaError } from '../../sdk/model/errors.ts'

/** JSON files of an archive, by their path in it. */
export type ImageDocuments = ReadonlyMap<string, Buffer>

/** Of `docker save`'s manifest.json: paths in the archive. */
export interface ImageManifest {
  readonly Config: string
  readonly Layers: readonly string[]
}

export function unusableImage(problem: string): IsolaError {
  return new IsolaError('image_unusable', `the image cannot be used: ${problem}`)
}

export function otherArchitecture(has: string, needed: string): IsolaError {
  return unusableImage(
    `it is for ${has}, and this node's engine runs ${needed}: build it for linux/${needed} (docker build --platform)`,
  )
}

/** The one image in the archive. Throws `image_unusable`. */
export function describeImage(documents: ImageDocuments, architecture: string): ImageManifest {
  const manifest = documents.has('manifest.json')
    ? ofDockerArchive(documents)
    : documents.has('index.json')
      ? ofLayout(documents, architecture)
      : undefined
  if (manifest === undefined) {
    throw unusableImage(
      'the archive has neither a manifest.json nor an index.json: send the tar of "docker save", or of an OCI layout',
    )
  }
  const { os, architecture: has } = readDocument(documents, manifest.Config) as Platform
  if (os !== undefined && os !== 'linux') throw unusableImage(`it is for ${os}, and not for linux`)
  if (has !== undefined && has !== architecture) throw otherArchitecture(has, architecture)
  return manifest
}

interface Platform {
  readonly os?: string
  readonly architecture?: string
}

function ofDockerArchive(documents: ImageDocuments): ImageManifest {
  const document = readDocument(documents, 'manifest.json')
  const list = Array.isArray(document) ? (document as readonly ImageManifest[]) : []
  const [first] = list
  if (first === undefined || list.length !== 1) {
    throw unusableImage(`the archive has ${list.length} images in it: send one at a time`)
  }
  const { Config, Layers } = first
  if (typeof Config !== 'string' || !isTexts(Layers)) {
    throw unusableImage('its manifest.json names no configuration or no layers')
  }
  return { Config, Layers }
}

interface Descriptor {
  readonly mediaType?: string
  readonly digest?: string
  readonly platform?: Platform
}

interface Manifest {
  readonly config?: Descriptor
  readonly layers?: readonly Descriptor[]
}

interface Index {
  readonly manifests?: readonly Descriptor[]
}

/** Indexes may be in an index; no tool makes more. */
const NESTED_MAX = 4

function ofLayout(documents: ImageDocuments, architecture: string): ImageManifest {
  const all = descriptorsIn(documents, readDocument(documents, 'index.json'), NESTED_MAX)
  // Attestations are for no platform at all.
  const images = all.filter(({ platform }) => platform?.os !== 'unknown')
  const fitting = images.filter(
    ({ platform }) =>
      platform?.architecture === undefined ||
      (platform.os === 'linux' && platform.architecture === architecture),
  )
  const [chosen] = fitting
  if (chosen === undefined && images.length > 0) {
    const names = images.map(({ platform }) => `${platform?.os}/${platform?.architecture}`)
    throw otherArchitecture([...new Set(names)].join(' and '), architecture)
  }
  if (chosen === undefined || fitting.length > 1) {
    throw unusableImage(
      `the layout has ${fitting.length} images for linux/${architecture} in it: send one at a time`,
    )
  }
  const { config, layers } = readDocument(documents, blobPath(chosen)) as Manifest
  return { Config: blobPath(config), Layers: (layers ?? []).map(blobPath) }
}

function descriptorsIn(documents: ImageDocuments, index: Index, depth: number): readonly Descriptor[] {
  if (depth === 0) throw unusableImage('its indexes name each other')
  return (index.manifests ?? []).flatMap((descriptor) =>
    /image\.index|manifest\.list/.test(descriptor.mediaType ?? '')
      ? descriptorsIn(documents, readDocument(documents, blobPath(descriptor)), depth - 1)
      : [descriptor],
  )
}

function blobPath(descriptor: Descriptor | undefined): string {
  const hex = /^sha256:([0-9a-f]{64})$/.exec(descriptor?.digest ?? '')?.[1]
  if (hex === undefined) throw unusableImage('one of its manifests names something without a SHA-256 digest')
  return `blobs/sha256/${hex}`
}

function readDocument(documents: ImageDocuments, path: string): object {
  const content = documents.get(path)
  if (content === undefined) throw unusableImage(`the archive lacks ${path}, which its manifest names`)
  try {
    const value = JSON.parse(content.toString('utf8')) as unknown
    if (typeof value === 'object' && value !== null) return value
  } catch {
    // Falls to the error below.
  }
  throw unusableImage(`${path} in the archive is not JSON`)
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string')
}
