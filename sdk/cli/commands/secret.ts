import { createSend, parseControlUrl, readJson, type Call } from '../../client/call.ts'
import type { DeployResult } from '../../model/control.ts'
import { BUNDLE_LIMITS } from '../../model/limits.ts'
import { currentActor } from '../actor.ts'
import { type Command, type CommandContext, type CommandResult, NODE_FLAGS } from '../command.ts'
import { findNode } from '../find-node.ts'
import { formatTable } from '../output.ts'
import { usageError } from '../parse-arguments.ts'
import { readInput } from '../read-input.ts'
import { shortId } from '../shares.ts'

export const secretCommand: Command = {
  name: 'secret',
  summary: 'set, list and delete secrets of a function',
  usage: 'put FN NAME | list FN | delete FN NAME',
  words: [2, 3],
  flags: { ...NODE_FLAGS },
  notes: [
    'The value comes from stdin, without its last line break, or is asked for on the terminal; never from the command line.',
    'A change makes a version with it, which serves at once. Secrets stay when the function is deployed again.',
    'The function finds them in env (a container: in its environment). Nobody is told them again.',
  ].join('\n'),
  examples: [
    'isola secret put shop API_KEY < key.txt',
    'isola secret list shop',
    'isola secret delete shop API_KEY',
  ],
  async run(context) {
    const [verb, functionName = '', name] = context.words
    if (verb === 'put' && name !== undefined) return await putSecret(context, functionName, name)
    if (verb === 'list' && name === undefined) return await listSecrets(context, functionName)
    if (verb === 'delete' && name !== undefined) return await deleteSecret(context, functionName, name)
    throw usageError('isola secret needs one of: put FN NAME, list FN, delete FN NAME')
  },
}

async function putSecret(
  context: CommandContext,
  functionName: string,
  name: string,
): Promise<CommandResult> {
  const text = await readSecret(context, name)
  const result = await send<DeployResult>(context, {
    method: 'PUT',
    path: ['functions', functionName, 'secrets', name],
    body: { text },
  })
  return { document: result, text: `set ${name}: ${served(result)}` }
}

async function listSecrets(context: CommandContext, functionName: string): Promise<CommandResult> {
  const answer = await send<{ readonly secrets: readonly { readonly name: string }[] }>(context, {
    method: 'GET',
    path: ['functions', functionName, 'secrets'],
  })
  const rows = answer.secrets.map(({ name }) => [name])
  return { document: answer, text: formatTable(['SECRET'], rows) }
}

async function deleteSecret(
  context: CommandContext,
  functionName: string,
  name: string,
): Promise<CommandResult> {
  const result = await send<DeployResult>(context, {
    method: 'DELETE',
    path: ['functions', functionName, 'secrets', name],
  })
  return { document: result, text: `deleted ${name}: ${served(result)}` }
}

function served({ functionName, deployment }: DeployResult): string {
  return `version ${shortId(deployment.shares[0]?.versionId ?? '')} of ${functionName} serves`
}

/** On a terminal it is asked for; else stdin is it. A file ends with a line break that is none of the secret's. */
async function readSecret(context: CommandContext, name: string): Promise<string> {
  const given =
    context.ask === undefined
      ? (await readInput(context, BUNDLE_LIMITS.varBytesMax + 2)).toString('utf8').replace(/\r?\n$/, '')
      : await context.ask(`value of ${name}: `)
  if (given === '')
    throw usageError(`the secret ${name} is empty: give its value on stdin, or type it when asked`)
  return given
}

async function send<T>(context: CommandContext, request: Call): Promise<T> {
  const address = await findNode(context)
  const controlUrl = parseControlUrl(address.controlUrl)
  return await readJson<T>(controlUrl, await createSend({ ...address, actor: currentActor() })(request))
}
