import { z } from 'zod'
import { bindingType } from './binding-type.ts'

export const assets = bindingType({
  type: 'assets',
  fields: z.object({}),
  read: ({ name }, { hasAssets }) =>
    hasAssets
      ? { type: 'assets', name }
      : {
          refused: `binding "${name}" of type "assets" has nothing to serve, because the upload has no assets: set "assets.directory"`,
        },
  show: (binding) => (binding.type === 'assets' ? {} : undefined),
})
