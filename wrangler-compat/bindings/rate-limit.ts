import { z } from 'zod'
import { bindingType } from './binding-type.ts'

export const rateLimit = bindingType({
  type: 'ratelimit',
  fields: z.object({
    // Configurations have it as a number, too.
    namespace_id: z.union([z.string().min(1).max(100), z.number().int()]).transform(String),
    simple: z.object({
      limit: z.number().int().positive().max(1_000_000_000),
      period: z.union([z.literal(10), z.literal(60)], 'expected 10 or 60'),
    }),
  }),
  read: ({ name, namespace_id: namespaceId, simple: { limit, period } }) => ({
    type: 'rate-limit',
    name,
    namespaceId,
    limit,
    periodS: period,
  }),
  show(binding) {
    if (binding.type !== 'rate-limit') return undefined
    const { namespaceId, limit, periodS } = binding
    return { namespace_id: namespaceId, simple: { limit, period: periodS } }
  },
})
