import { type Command, NODE_FLAGS } from '../command.ts'
import { connectToNode } from '../find-node.ts'
import { formatDeployResult } from '../deploy-result.ts'

export const rollbackCommand: Command = {
  name: 'rollback',
  summary: 'give all traffic back to an earlier version',
  usage: 'FN [VERSION]',
  words: [1, 2],
  flags: NODE_FLAGS,
  notes:
    'Without VERSION: to what the last deployment replaced. An id may be shortened to its first 8 digits.',
  examples: ['isola rollback hello', 'isola rollback hello 1a2b3c4d'],
  async run(context) {
    const [name = '', versionId] = context.words
    const client = await connectToNode(context)
    const result = await client.rollback(name, versionId === undefined ? {} : { versionId })
    return { document: result, text: formatDeployResult(result) }
  },
}
