import { IsolaError } from '../../sdk/model/errors.ts'
import type { FunctionRecord, Head } from '../../sdk/model/function.ts'

/** Throws `function_not_found` that names what there is. */
export function findFunction(head: Head, functionName: string): FunctionRecord {
  const record = Object.hasOwn(head.functions, functionName) ? head.functions[functionName] : undefined
  if (record !== undefined) return record
  const names = Object.keys(head.functions)
  const known =
    names.length === 0
      ? 'nothing is deployed here yet'
      : `deployed are ${names.slice(0, 10).join(', ')}${names.length > 10 ? ` and ${names.length - 10} more` : ''}`
  throw new IsolaError(
    'function_not_found',
    `there is no function ${JSON.stringify(functionName)}: ${known}; deploy it first, or check the name`,
  )
}
