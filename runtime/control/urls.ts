import type { FunctionRecord } from '../../sdk/model/function.ts'
import { previewLabel } from '../../sdk/model/function.ts'
import { parseRoutePattern } from '../../sdk/model/route.ts'

export interface PublicAddress {
  readonly baseDomain: string
  /** 0 or 80: not written. */
  readonly port: number
}

const HOST_LABEL_CHARS_MAX = 63

/** Where a function answers, for a browser. Wildcard hosts are left out: they name no single place. */
export function functionUrls(record: FunctionRecord, address: PublicAddress): string[] {
  const urls = record.baseDomainHost ? [urlOf(`${record.name}.${address.baseDomain}`, '/', address.port)] : []
  for (const route of record.routes) {
    const { host, wildcardHost, path } = parseRoutePattern(route.pattern)
    if (!wildcardHost) urls.push(urlOf(host, path, address.port))
  }
  return [...new Set(urls)]
}

/** `undefined` where the version has no preview host: previews are off, it is too old, or the label is too long. */
export function previewUrl(
  record: FunctionRecord,
  versionId: string,
  address: PublicAddress,
): string | undefined {
  const label = previewLabel(versionId, record.name)
  if (!record.previewHosts || !record.recentVersionIds.includes(versionId)) return undefined
  if (label.length > HOST_LABEL_CHARS_MAX) return undefined
  return urlOf(`${label}.${address.baseDomain}`, '/', address.port)
}

function urlOf(host: string, path: string, port: number): string {
  return `http://${host}${port === 0 || port === 80 ? '' : `:${port}`}${path}`
}
