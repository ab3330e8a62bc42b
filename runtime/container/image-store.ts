/**
 * Images of functions: built, loaded or pulled, then kept under a name of isola's by their digest. The name has the
 * node's, because nodes that share an engine do not know each other's functions. An image that no version names goes
 * after a while; so do the layers of old builds.
 */
import { CONTAINER_RUNTIMES } from '../../sdk/model/function.ts'
import type { ImageSummary, PullRequest } from '../../sdk/model/control.ts'
import { IsolaError } from '../../sdk/model/errors.ts'
import { CONTAINER_LIMITS, ENGINE_LIMITS } from '../../sdk/model/limits.ts'
import type { Engine, ImageInspection } from './engine.ts'
import { readImageArchive } from './image-archive.ts'
import { boundBytes } from './image-bytes.ts'
import { otherArchitecture, unusableImage } from './image-manifest.ts'
import type { RuntimeImages } from './runtime-images.ts'

export interface ImageStore {
  /** Throws `build_failed` with the builder's words. */
  build(request: ArchiveRequest & { readonly dockerfile?: string }): Promise<ImageSummary>
  /** Throws `image_unusable`. */
  load(request: ArchiveRequest): Promise<ImageSummary>
  /** Throws `image_not_found`, `image_unusable` with the registry's words. */
  pull(request: PullRequest & Reporting): Promise<ImageSummary>
  /** Removes images that are none of `keepIds`, and layers of builds beyond the bound. What a container uses stays. */
  collect(keepIds: ReadonlySet<string>, options: { readonly bytesMax: number }): Promise<void>
}

export interface Reporting {
  onText(text: string): void
  /** Who asked is gone. */
  readonly signal?: AbortSignal
}

export interface ArchiveRequest extends Reporting {
  readonly tar: AsyncIterable<Uint8Array>
}

export interface ImageStoreOptions {
  readonly engine: Engine
  readonly isolationName: string
  /** Made before the first build: a Dockerfile may begin with them. */
  readonly runtimeImages?: Pick<RuntimeImages, 'runtimeImage' | 'collect'>
  /** @default CONTAINER_LIMITS.imageBytesMax */
  readonly bytesMax?: number
  /** @default CONTAINER_LIMITS.buildTimeoutMs */
  readonly buildTimeoutMs?: number
  /** @default ENGINE_LIMITS.unusedImageKeptMs */
  readonly unusedKeptMs?: number
}

export function createImageStore(options: ImageStoreOptions): ImageStore {
  const { engine, isolationName, runtimeImages } = options
  const bytesMax = options.bytesMax ?? CONTAINER_LIMITS.imageBytesMax
  const prefix = `isola-function:${isolationName}.`
  const keep = async (id: string): Promise<ImageSummary> => {
    const { architecture } = await engine.info()
    const image = await engine.inspectImage(id)
    if (image === undefined) {
      throw new IsolaError('image_not_found', `the engine lost image ${id} at once: try again`)
    }
    if (image.architecture !== architecture) throw otherArchitecture(image.architecture, architecture)
    if (image.sizeBytes > bytesMax) {
      throw unusableImage(`it has ${image.sizeBytes} bytes when unpacked, and ${bytesMax} is the most`)
    }
    await engine.tagImage(id, `${prefix}${id.replace('sha256:', '')}`)
    return { imageId: id, sizeBytes: image.sizeBytes, architecture }
  }
  return {
    async build({ tar, dockerfile, onText, signal }) {
      // One that this machine cannot have is missed by the build that begins with it, which says so.
      await Promise.allSettled(
        CONTAINER_RUNTIMES.map(async (runtime) => runtimeImages?.runtimeImage(runtime)),
      )
      signal?.throwIfAborted()
      const id = await engine.buildImage({
        tar: boundBytes(tar, bytesMax),
        ...(dockerfile !== undefined && { dockerfile }),
        labels: { 'isola.image': 'function', 'isola.node': isolationName },
        timeoutMs: options.buildTimeoutMs ?? CONTAINER_LIMITS.buildTimeoutMs,
        onText,
        ...(signal !== undefined && { signal }),
      })
      return await keepOrRemove(id, id)
    },
    async load({ tar, onText }) {
      const { architecture } = await engine.info()
      const archive = readImageArchive(tar, { architecture, bytesMax })
      const id = await engine.loadImage(archive, onText)
      return await keepOrRemove(id, id)
    },
    async pull({ reference, username, password, onText, signal }) {
      const wasThere = (await engine.inspectImage(reference)) !== undefined
      const id = await engine.pullImage({
        reference,
        ...(username !== undefined && { username }),
        ...(password !== undefined && { password }),
        onText,
        ...(signal !== undefined && { signal }),
      })
      const summary = await keepOrRemove(id, wasThere ? undefined : reference)
      // Kept by its digest: the name is the registry's, and may mean another image tomorrow.
      if (!wasThere) await engine.removeImage(reference)
      return summary
    },
    async collect(keepIds, { bytesMax: layersBytesMax }) {
      const beforeMs = Date.now() - (options.unusedKeptMs ?? ENGINE_LIMITS.unusedImageKeptMs)
      for (const image of await engine.listImagesNamed(`${prefix}*`)) {
        if (keepIds.has(image.id) || nameTimeMs(image) > beforeMs) continue
        const names = image.references.filter((reference) => reference.startsWith(prefix))
        for (const name of names) await engine.removeImage(name)
      }
      await engine.pruneBuilds({ keepBytes: layersBytesMax })
      await runtimeImages?.collect()
    },
  }

  async function keepOrRemove(id: string, reference: string | undefined): Promise<ImageSummary> {
    try {
      return await keep(id)
    } catch (error) {
      // By id only what has no name: else it is somebody's.
      const image = reference === undefined ? undefined : await engine.inspectImage(reference)
      const isOurs = image !== undefined && (reference !== id || image.references.length === 0)
      if (isOurs && reference !== undefined) await engine.removeImage(reference)
      throw error
    }
  }
}

function nameTimeMs(image: ImageInspection): number {
  return image.taggedAtMs ?? image.createdAtMs
}
