import { assetEndpoints } from './assets/asset-endpoints.ts'
import { createDeploymentEndpoints } from './deployments/create.ts'
import { readDeploymentEndpoints } from './deployments/read.ts'
import type { Endpoints } from './endpoint.ts'
import { contentEndpoints } from './scripts/content.ts'
import { putScriptEndpoints } from './scripts/put-script.ts'
import { referenceEndpoints } from './scripts/references.ts'
import { serviceEndpoints } from './scripts/service.ts'
import { settingsEndpoints } from './scripts/settings.ts'
import { workerEndpoints } from './scripts/worker.ts'
import { secretEndpoints } from './secrets/secrets.ts'
import { createVersionEndpoints } from './versions/create.ts'
import { readVersionEndpoints } from './versions/read.ts'
import { absentProductEndpoints } from './absent-products.ts'
import { domainEndpoints } from './domains.ts'
import { identityEndpoints } from './identity.ts'
import { routeEndpoints } from './routes.ts'
import { scheduleEndpoints } from './schedules.ts'
import { subdomainEndpoints } from './subdomain.ts'
import { zoneEndpoints } from './zones.ts'
import { dispatchNamespaceEndpoints } from './dispatch/namespaces.ts'
import { dispatchScriptEndpoints } from './dispatch/scripts.ts'
import { tailEndpoints } from './tails.ts'

/** Everything wrangler's API answers; each table stands in the file of its subject. */
export const ENDPOINTS: readonly Endpoints[] = [
  serviceEndpoints,
  putScriptEndpoints,
  settingsEndpoints,
  contentEndpoints,
  referenceEndpoints,
  workerEndpoints,
  secretEndpoints,
  createVersionEndpoints,
  readVersionEndpoints,
  createDeploymentEndpoints,
  readDeploymentEndpoints,
  assetEndpoints,
  absentProductEndpoints,
  domainEndpoints,
  identityEndpoints,
  routeEndpoints,
  scheduleEndpoints,
  subdomainEndpoints,
  zoneEndpoints,
  dispatchNamespaceEndpoints,
  dispatchScriptEndpoints,
  tailEndpoints,
]
