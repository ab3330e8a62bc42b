import type { VersionContent } from '../model/function.ts'

/** What a version runs, in a cell: `index.js`, `nodejs24 index.handler`, `image 1a2b3c4d5e6f, http`. */
export function formatContent(content: VersionContent): string {
  if (content.kind === 'worker') return content.mainModule
  const { source, protocol } = content
  if (source.type === 'code') return `${source.runtime} ${source.handler}`
  return `image ${shortImageId(source.imageId)}, ${protocol}`
}

/** `sha256:` and 64 digits, as people compare them. */
export function shortImageId(imageId: string): string {
  return imageId.replace(/^sha256:/, '').slice(0, 12)
}
