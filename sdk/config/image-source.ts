import { resolve } from 'node:path'

export type ImageSource =
  | { readonly type: 'image-file'; readonly path: string }
  | { readonly type: 'image-reference'; readonly reference: string }

const REFERENCE =
  /^(?:[A-Za-z0-9.-]+(?::\d{1,5})?\/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*(?::\w[\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?$/

/** A tarball by its ending, else a reference; `undefined` for what is neither. */
export function parseImageSource(text: string, directory: string): ImageSource | undefined {
  if (/\.(?:tar|tar\.gz|tgz)$/.test(text)) return { type: 'image-file', path: resolve(directory, text) }
  return text.length <= 512 && REFERENCE.test(text) ? { type: 'image-reference', reference: text } : undefined
}
