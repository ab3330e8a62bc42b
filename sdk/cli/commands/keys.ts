import { createSend, parseControlUrl, readJson, type Call } from '../../client/call.ts'
import type { AccessKey, NewAccessKey } from '../../model/lambda.ts'
import { currentActor } from '../actor.ts'
import { type Command, type CommandContext, type CommandResult, NODE_FLAGS } from '../command.ts'
import { formatAge } from '../duration.ts'
import { findNode } from '../find-node.ts'
import { formatTable } from '../output.ts'
import { usageError } from '../parse-arguments.ts'

export const keysCommand: Command = {
  name: 'keys',
  summary: 'make, list and delete access keys for the AWS SDK and the AWS CLI',
  usage: 'create | list | delete ID',
  words: [1, 2],
  flags: {
    description: { type: 'text', value: 'TEXT', help: 'whose the key is, or what for (create)' },
    ...NODE_FLAGS,
  },
  notes: [
    'A key may call everything in the Lambda API of the node. Its secret is shown once, when it is made.',
    'Clients need the node’s control URL as endpoint: aws --endpoint-url URL lambda list-functions',
  ].join('\n'),
  examples: [
    'isola keys create --description ci',
    'isola keys list',
    'isola keys delete AKISOLAABCDEFGHIJKLM',
  ],
  async run(context) {
    const [verb, accessKeyId] = context.words
    if (verb === 'create' && accessKeyId === undefined) return await createKey(context)
    if (verb === 'list' && accessKeyId === undefined) return await listKeys(context)
    if (verb === 'delete' && accessKeyId !== undefined) return await deleteKey(context, accessKeyId)
    throw usageError('isola keys needs one of: create, list, delete ID')
  },
}

async function createKey(context: CommandContext): Promise<CommandResult> {
  const description = context.flags.text('description')
  const { controlUrl, response } = await send(context, {
    method: 'POST',
    path: ['keys'],
    body: description === undefined ? {} : { description },
  })
  const key = await readJson<NewAccessKey>(controlUrl, response)
  return {
    document: key,
    // To be pasted into a shell; the secret cannot be shown again.
    text: [
      `export AWS_ACCESS_KEY_ID=${key.accessKeyId}`,
      `export AWS_SECRET_ACCESS_KEY=${key.secretAccessKey}`,
      // The SDK for JavaScript reads the first and nothing else, boto3 and the first AWS CLI the second.
      'export AWS_REGION=us-east-1',
      'export AWS_DEFAULT_REGION=us-east-1',
      `export AWS_ENDPOINT_URL_LAMBDA=${controlUrl}`,
    ].join('\n'),
  }
}

async function listKeys(context: CommandContext): Promise<CommandResult> {
  const { controlUrl, response } = await send(context, { method: 'GET', path: ['keys'] })
  const answer = await readJson<{ readonly keys: readonly AccessKey[] }>(controlUrl, response)
  const nowMs = Date.now()
  const rows = answer.keys.map(({ accessKeyId, createdAt, description }) => [
    accessKeyId,
    formatAge(createdAt, nowMs),
    description,
  ])
  return { document: answer, text: formatTable(['KEY', 'CREATED', 'DESCRIPTION'], rows) }
}

async function deleteKey(context: CommandContext, accessKeyId: string): Promise<CommandResult> {
  const { controlUrl, response } = await send(context, { method: 'DELETE', path: ['keys', accessKeyId] })
  const answer = await readJson<object>(controlUrl, response)
  return { document: answer, text: `deleted ${accessKeyId}: requests signed with it are refused from now on` }
}

async function send(
  context: CommandContext,
  request: Call,
): Promise<{ readonly controlUrl: string; readonly response: Response }> {
  const address = await findNode(context)
  const controlUrl = parseControlUrl(address.controlUrl)
  return { controlUrl, response: await createSend({ ...address, actor: currentActor() })(request) }
}
