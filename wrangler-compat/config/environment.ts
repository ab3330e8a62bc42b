import { chooseEnvironment as choose, type ChosenFields as Chosen } from '../../sdk/config/environment.ts'
import type { Problem } from '../../sdk/config/problem.ts'
import {
  INHERITABLE_FIELDS,
  NON_INHERITABLE_FIELDS,
  TOP_LEVEL_FIELDS,
  type Config,
  type ConfigFields,
} from './schema.ts'

export type ChosenFields = Chosen<ConfigFields>

export function chooseEnvironment(config: Config, environment: string | undefined): ChosenFields | Problem {
  return choose<ConfigFields>(config, environment, {
    inheritable: INHERITABLE_FIELDS,
    nonInheritable: NON_INHERITABLE_FIELDS,
    topLevel: TOP_LEVEL_FIELDS,
    exclusive: ['route', 'routes'],
  })
}
