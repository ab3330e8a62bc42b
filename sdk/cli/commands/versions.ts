import { type Command, NODE_FLAGS } from '../command.ts'
import { formatAge } from '../duration.ts'
import { formatContent } from '../version-content.ts'
import { connectToNode } from '../find-node.ts'
import { formatTable } from '../output.ts'

export const versionsCommand: Command = {
  name: 'versions',
  summary: 'list the versions of a function, newest first',
  usage: 'FN',
  words: [1, 1],
  flags: NODE_FLAGS,
  examples: ['isola versions hello', "isola versions hello --json | jq -r '.versions[0].id'"],
  async run(context) {
    const [name = ''] = context.words
    const client = await connectToNode(context)
    const versions = await client.listVersions(name)
    const nowMs = Date.now()
    const rows = versions.map((version) => [
      version.id,
      formatContent(version.content),
      version.percent === 0 ? '-' : `${version.percent}%`,
      formatAge(version.createdAt, nowMs),
      version.previewUrl ?? '-',
      version.message,
    ])
    return {
      document: { versions },
      text: formatTable(['VERSION', 'RUNS', 'TRAFFIC', 'CREATED', 'PREVIEW', 'MESSAGE'], rows),
    }
  },
}
