import { z } from 'zod'
import { bindingType } from './binding-type.ts'

export const dispatchNamespace = bindingType({
  type: 'dispatch_namespace',
  fields: z.object({ namespace: z.string().min(1), outbound: z.unknown().optional() }),
  read: ({ name, namespace, outbound }) =>
    outbound === undefined || outbound === null
      ? { type: 'dispatch', name, namespace }
      : {
          refused: `binding "${name}" of type "dispatch_namespace" asks for an outbound Worker, which isola does not have yet: remove "outbound", and limit where functions may go with "isola limits FN --egress"`,
        },
  show: (binding) => (binding.type === 'dispatch' ? { namespace: binding.namespace } : undefined),
})
