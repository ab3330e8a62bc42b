import { type Command, NODE_FLAGS } from '../command.ts'
import { formatAge } from '../duration.ts'
import { connectToNode } from '../find-node.ts'
import { formatTable } from '../output.ts'
import { formatShares } from '../shares.ts'

export const listCommand: Command = {
  name: 'list',
  summary: 'list the functions of a node',
  usage: '',
  words: [0, 0],
  flags: NODE_FLAGS,
  examples: ['isola list', "isola list --json | jq -r '.functions[].name'"],
  async run(context) {
    const client = await connectToNode(context)
    const functions = await client.listFunctions()
    const nowMs = Date.now()
    const rows = functions.map((record) => [
      record.name,
      record.kind,
      formatShares(record.deployment.shares),
      record.routes.map((route) => route.pattern).join(', ') || '-',
      formatAge(record.deployment.createdAt, nowMs),
    ])
    return {
      document: { functions },
      text:
        rows.length === 0
          ? 'no functions yet: "isola deploy DIR" makes one'
          : formatTable(['FUNCTION', 'KIND', 'VERSIONS', 'ROUTES', 'DEPLOYED'], rows),
    }
  },
}
