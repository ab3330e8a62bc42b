import mime from 'mime'

/** The content type of a static file by the extension of its path, as wrangler sends it; `undefined` for an unknown one. */
export function assetContentType(path: string): string | undefined {
  const type = mime.getType(path) ?? undefined
  return type?.startsWith('text/') === true && !type.includes('charset') ? `${type}; charset=utf-8` : type
}
