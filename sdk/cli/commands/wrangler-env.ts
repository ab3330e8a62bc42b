import { ACCOUNT_ID } from '../../../wrangler-compat/api/ports.ts'
import { parseControlUrl } from '../../client/call.ts'
import { type Command, NODE_FLAGS } from '../command.ts'
import { findNode } from '../find-node.ts'

export const wranglerEnvCommand: Command = {
  name: 'wrangler-env',
  summary: 'print the environment with which wrangler deploys to this node',
  usage: '',
  words: [0, 0],
  flags: {
    dotenv: { type: 'boolean', help: 'as lines of a .env file instead of a shell’s' },
    ...NODE_FLAGS,
  },
  notes: [
    'wrangler reads a .env file beside its configuration; what is in the environment already goes before it.',
    'What is printed holds the node’s token: keep such a file out of version control.',
  ].join('\n'),
  examples: [
    'eval "$(isola wrangler-env)" && npx wrangler deploy',
    'isola wrangler-env --dotenv >> .env',
    'isola wrangler-env --control http://10.0.0.5:8081',
  ],
  async run(context) {
    const { controlUrl, token } = await findNode(context)
    const environment = {
      CLOUDFLARE_API_BASE_URL: `${parseControlUrl(controlUrl)}/client/v4`,
      CLOUDFLARE_API_TOKEN: token,
      CLOUDFLARE_ACCOUNT_ID: ACCOUNT_ID,
      // The deploys are no business of anybody else's.
      WRANGLER_SEND_METRICS: 'false',
    }
    const isDotenv = context.flags.has('dotenv')
    const lines = Object.entries(environment).map(([name, value]) =>
      isDotenv ? `${name}=${dotenvValue(value)}` : `export ${name}=${shellWord(value)}`,
    )
    return { document: environment, text: lines.join('\n') }
  },
}

const PLAIN = /^[\w%+,./:=@-]+$/

function shellWord(value: string): string {
  return PLAIN.test(value) ? value : `'${value.replaceAll("'", String.raw`'\''`)}'`
}

/** In single quotes nothing has a meaning there but the quote itself, which a token does not have. */
function dotenvValue(value: string): string {
  return PLAIN.test(value) ? value : `'${value}'`
}
