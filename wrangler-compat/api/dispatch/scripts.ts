/**
 * Scripts of dispatch namespaces. Each is a function of a name of its own, uploaded as every other; only where it stands in
 * the head is another place, and that it answers on no host.
 */
import { deleteFunction } from '../../../runtime/control/delete-function.ts'
import {
  findNamespace,
  portsOfScript,
  scriptFunction,
  scriptFunctionName,
} from '../../../runtime/control/dispatch-namespaces.ts'
import type { FunctionRecord } from '../../../sdk/model/function.ts'
import { CloudflareError } from '../api-error.ts'
import { param, type ApiCall, type Endpoints } from '../endpoint.ts'
import { wholeList } from '../envelope.ts'
import { parseScriptName } from '../script-name.ts'
import { wranglerRecord } from '../script-record.ts'
import { deployUpload } from '../scripts/deploy-upload.ts'
import { showUpload } from '../scripts/put-script.ts'
import { showScript } from '../scripts/service.ts'
import { readUpload } from '../upload/read-upload.ts'
import { asNamespaceErrors } from './namespaces.ts'

const PATH = '/accounts/:account/workers/dispatch/namespaces/:namespace/scripts'

export const dispatchScriptEndpoints: Endpoints = {
  [`GET ${PATH}`]: (call) =>
    asNamespaceErrors(async () => {
      const head = await call.ports.registry.refresh()
      const { functionByScript } = findNamespace(head, param(call, 'namespace'))
      const scripts = Object.entries(functionByScript).flatMap(([script, functionName]) => {
        const record = head.functions[functionName]
        return record === undefined ? [] : [showNamed(record, script)]
      })
      return wholeList(scripts)
    }),
  [`GET ${PATH}/:script`]: async (call) => {
    const script = param(call, 'script')
    const record = await findDispatchScript(call)
    const { createdAt, modifiedAt } = wranglerRecord(record)
    return {
      created_on: createdAt,
      modified_on: modifiedAt,
      dispatch_namespace: param(call, 'namespace'),
      script: showNamed(record, script),
    }
  },
  [`PUT ${PATH}/:script`]: async (call) => {
    const { ports, functionName, script } = await scriptPlace(call)
    const upload = await readUpload(call, functionName)
    const result = await deployUpload({ ...call, ports }, { functionName, upload })
    return { ...showUpload(call, { upload, result }), id: script }
  },
  [`DELETE ${PATH}/:script`]: async (call) => {
    const { name } = await findDispatchScript(call)
    await deleteFunction(call.ports, name)
    return { id: param(call, 'script') }
  },
}

/** The function that a script of a namespace is, or is going to be, with the ports to make it. */
async function scriptPlace(
  call: ApiCall,
): Promise<{ readonly ports: ApiCall['ports']; readonly functionName: string; readonly script: string }> {
  const script = parseScriptName(param(call, 'script'))
  const name = param(call, 'namespace')
  return await asNamespaceErrors(async () => {
    const namespace = findNamespace(await call.ports.registry.refresh(), name)
    return {
      ports: portsOfScript(call.ports, { name, script }),
      functionName: scriptFunctionName(namespace, script),
      script,
    }
  })
}

/** Throws `scriptNotInNamespace` (10092), on which wrangler goes on as for a new script. */
async function findDispatchScript({ ports, params }: ApiCall): Promise<FunctionRecord> {
  const { namespace = '', script = '' } = params
  const head = await ports.registry.refresh()
  return await asNamespaceErrors(async () => {
    const functionName = scriptFunction(findNamespace(head, namespace), script)
    const record = functionName === undefined ? undefined : head.functions[functionName]
    if (record !== undefined) return record
    throw new CloudflareError(
      'scriptNotInNamespace',
      `the dispatch namespace "${namespace}" has no script ${JSON.stringify(script.slice(0, 100))} (workers.api.error.dispatch_script_not_found)`,
    )
  })
}

function showNamed(record: FunctionRecord, script: string): Record<string, unknown> {
  return { ...showScript(record), id: script }
}
