import { functionUrls } from '../../../runtime/control/urls.ts'
import { param, type Endpoints } from '../endpoint.ts'
import { findScript, wranglerRecord } from '../script-record.ts'

export const workerEndpoints: Endpoints = {
  /** wrangler prints the host name of `url`, and of a preview: https, the version's first 8 digits and the suffix. */
  'GET /accounts/:account/workers/workers/:script': (call) => {
    const { registry, baseDomain } = call.ports
    const record = findScript(registry.head, param(call, 'script'))
    const { tag, tags, createdAt, modifiedAt, settings } = wranglerRecord(record)
    const address = { baseDomain, port: call.ports.httpPort() }
    const [url] = functionUrls({ ...record, baseDomainHost: true, routes: [] }, address)
    return {
      id: tag,
      name: record.name,
      tags,
      created_on: createdAt,
      updated_on: modifiedAt,
      logpush: settings.logpush ?? false,
      observability: settings.observability ?? { enabled: false },
      tail_consumers: settings.tailConsumers ?? [],
      subdomain: {
        enabled: record.baseDomainHost,
        previews_enabled: record.previewHosts,
        url,
        preview_url_suffix: `-${record.name}.${baseDomain}`,
      },
    }
  },
}
