import { type Command, NODE_FLAGS } from '../command.ts'
import { formatDeployResult } from '../deploy-result.ts'
import { connectToNode } from '../find-node.ts'
import { formatTable } from '../output.ts'
import { usageError } from '../parse-arguments.ts'

export const trafficCommand: Command = {
  name: 'traffic',
  summary: 'show or set what share of requests each version gets',
  usage: 'FN [VERSION=PERCENT…]',
  words: [1, 21],
  flags: { message: { type: 'text', value: 'TEXT', help: 'why, kept with the deployment' }, ...NODE_FLAGS },
  notes: 'The shares must sum to 100. An id may be shortened to its first 8 digits.',
  examples: [
    'isola traffic hello',
    'isola traffic hello 1a2b3c4d=90 5e6f7a8b=10',
    'isola traffic hello 5e6f7a8b=100',
  ],
  async run(context) {
    const [name = '', ...words] = context.words
    const shares = words.map(parseShare)
    const client = await connectToNode(context)
    if (shares.length === 0) {
      const { deployment } = await client.getFunction(name)
      const rows = deployment.shares.map((share) => [share.versionId, `${share.percent}%`])
      return { document: { functionName: name, deployment }, text: formatTable(['VERSION', 'TRAFFIC'], rows) }
    }
    const message = context.flags.text('message')
    const result = await client.setTraffic(name, { shares, ...(message === undefined ? {} : { message }) })
    return { document: result, text: formatDeployResult(result) }
  },
}

function parseShare(word: string): { versionId: string; percent: number } {
  const match = /^([0-9a-f]{1,32})=(\d{1,3}(?:\.\d{1,6})?)%?$/i.exec(word)
  if (match?.[1] !== undefined) return { versionId: match[1].toLowerCase(), percent: Number(match[2]) }
  throw usageError(`"${word}" is no share of traffic: write VERSION=PERCENT, e.g. 1a2b3c4d=90`)
}
