import { z } from 'zod'
import { parseFunctionName } from '../../sdk/model/function.ts'
import { isIsolaError } from '../../sdk/model/errors.ts'
import { bindingType } from './binding-type.ts'

/** The environment of a service that has no others; wrangler may name it. */
const ONLY_ENVIRONMENT = 'production'

export const service = bindingType({
  type: 'service',
  fields: z.object({
    service: z.string(),
    environment: z.string().optional(),
    entrypoint: z.string().optional(),
    props: z.json().optional(),
    cross_account_grant: z.unknown().optional(),
  }),
  read({ name, service: functionName, environment, entrypoint, props, cross_account_grant }) {
    if (environment !== undefined && environment !== '' && environment !== ONLY_ENVIRONMENT) {
      return {
        refused: `binding "${name}" asks for the environment ${JSON.stringify(environment)} of the service ${JSON.stringify(functionName)}: each environment is a function of its own, so name that as "service"`,
      }
    }
    if (cross_account_grant !== undefined && cross_account_grant !== null) {
      return {
        refused: `binding "${name}" names a service of another account, and an isola node has one account: remove "cross_account_grant"`,
      }
    }
    try {
      parseFunctionName(functionName)
    } catch (error) {
      if (isIsolaError(error)) return { refused: `binding "${name}" of type "service": ${error.message}` }
      throw error
    }
    return {
      type: 'service',
      name,
      functionName,
      ...(entrypoint !== undefined && entrypoint !== '' && entrypoint !== 'default' && { entrypoint }),
      ...(props !== undefined && { props }),
    }
  },
  show(binding) {
    if (binding.type !== 'service') return undefined
    const { functionName, entrypoint, props } = binding
    return {
      service: functionName,
      environment: ONLY_ENVIRONMENT,
      ...(entrypoint !== undefined && { entrypoint }),
      ...(props !== undefined && { props }),
    }
  },
})
