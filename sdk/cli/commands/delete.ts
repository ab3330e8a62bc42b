import { type Command, NODE_FLAGS } from '../command.ts'
import { connectToNode } from '../find-node.ts'
import { usageError } from '../parse-arguments.ts'

export const deleteCommand: Command = {
  name: 'delete',
  summary: 'delete a function with its versions and routes',
  usage: 'FN',
  words: [1, 1],
  flags: {
    yes: { type: 'boolean', short: 'y', help: 'do not ask (needed where there is no terminal to ask on)' },
    ...NODE_FLAGS,
  },
  examples: ['isola delete hello', 'isola delete hello --yes --json'],
  async run(context) {
    const [name = ''] = context.words
    const confirmed = context.flags.has('yes')
    if (!confirmed && context.ask === undefined) {
      throw usageError(`deleting "${name}" needs --yes where there is no terminal to ask on`)
    }
    const client = await connectToNode(context)
    await client.getFunction(name)
    if (!confirmed && context.ask !== undefined) {
      const answer = await context.ask(`Delete "${name}", its versions and its routes? Type its name: `)
      if (answer.trim() !== name) {
        return { document: { functionName: name, deleted: false }, text: 'nothing was deleted', exitCode: 1 }
      }
    }
    const { generation } = await client.deleteFunction(name)
    return { document: { functionName: name, deleted: true, generation }, text: `${name} is deleted` }
  },
}
