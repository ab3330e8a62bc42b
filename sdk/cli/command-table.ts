import type { Command } from './command.ts'
import { deadLettersCommand } from './commands/dead-letters.ts'
import { deleteCommand } from './commands/delete.ts'
import { deployCommand } from './commands/deploy.ts'
import { devCommand } from './commands/dev.ts'
import { doctorCommand } from './commands/doctor.ts'
import { invokeCommand } from './commands/invoke.ts'
import { keysCommand } from './commands/keys.ts'
import { limitsCommand } from './commands/limits.ts'
import { listCommand } from './commands/list.ts'
import { logsCommand } from './commands/logs.ts'
import { rollbackCommand } from './commands/rollback.ts'
import { routesCommand } from './commands/routes.ts'
import { scaleCommand } from './commands/scale.ts'
import { secretCommand } from './commands/secret.ts'
import { statusCommand } from './commands/status.ts'
import { trafficCommand } from './commands/traffic.ts'
import { upCommand } from './commands/up.ts'
import { usageCommand } from './commands/usage.ts'
import { versionsCommand } from './commands/versions.ts'
import { wranglerEnvCommand } from './commands/wrangler-env.ts'

/** In the order a newcomer meets them. What is heavy to load (the bundler, the node) each loads when it runs. */
export const COMMANDS: readonly Command[] = [
  upCommand,
  devCommand,
  deployCommand,
  invokeCommand,
  deadLettersCommand,
  listCommand,
  versionsCommand,
  rollbackCommand,
  trafficCommand,
  routesCommand,
  secretCommand,
  scaleCommand,
  limitsCommand,
  logsCommand,
  statusCommand,
  usageCommand,
  keysCommand,
  wranglerEnvCommand,
  deleteCommand,
  doctorCommand,
]
