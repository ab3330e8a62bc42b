import { assets } from './assets.ts'
import type { BindingType } from './binding-type.ts'
import { dispatchNamespace } from './dispatch-namespace.ts'
import { dataBlob, textBlob, wasmModule } from './module-bindings.ts'
import { rateLimit } from './rate-limit.ts'
import { service } from './service.ts'
import { json, plainText, secretText } from './variables.ts'
import { versionMetadata } from './version-metadata.ts'

/** Every type of binding that there is. `inherit` is none: it stands for one of the version before. */
export const BINDING_TYPES: readonly BindingType[] = [
  plainText,
  json,
  secretText,
  service,
  versionMetadata,
  rateLimit,
  assets,
  dispatchNamespace,
  wasmModule,
  textBlob,
  dataBlob,
]
