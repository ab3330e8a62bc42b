import { DEFAULT_CONTROL, DEFAULT_HTTP, parseAddress } from '../address.ts'
import { type Command, JSON_FLAG } from '../command.ts'
import { examineMachine } from '../doctor-checks.ts'
import { DEFAULT_DATA_DIRECTORY, dataDirectoryOf } from '../find-node.ts'
import { formatTable } from '../output.ts'

export const doctorCommand: Command = {
  name: 'doctor',
  summary: 'check whether this machine can run a node, and how well',
  usage: '',
  words: [0, 0],
  flags: {
    data: { type: 'text', value: 'DIR', help: `data directory to check (default ${DEFAULT_DATA_DIRECTORY})` },
    http: { type: 'text', value: 'HOST:PORT', help: `address to check (default ${DEFAULT_HTTP})` },
    control: { type: 'text', value: 'HOST:PORT', help: `address to check (default ${DEFAULT_CONTROL})` },
    json: JSON_FLAG,
  },
  notes: 'Exit code 1 if a check fails. A warning says what works less well, and the way out.',
  examples: ['isola doctor', 'isola doctor --data /var/lib/isola --http 0.0.0.0:80'],
  async run(context) {
    const { flags } = context
    const findings = await examineMachine({
      dataDirectory: dataDirectoryOf(context),
      http: parseAddress(flags.text('http') ?? DEFAULT_HTTP, 'http'),
      control: parseAddress(flags.text('control') ?? DEFAULT_CONTROL, 'control'),
    })
    const failed = findings.some((finding) => finding.result === 'fail')
    return {
      document: { ok: !failed, checks: findings },
      text: formatTable(
        ['CHECK', 'RESULT', ''],
        findings.map((finding) => [finding.check, finding.result, finding.message]),
      ),
      exitCode: failed ? 1 : 0,
    }
  },
}
