import { z } from 'zod'
import { bindingType } from './binding-type.ts'

export const versionMetadata = bindingType({
  type: 'version_metadata',
  fields: z.object({}),
  read: ({ name }) => ({ type: 'version-metadata', name }),
  show: (binding) => (binding.type === 'version-metadata' ? {} : undefined),
})
