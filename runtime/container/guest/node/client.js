/**
 * The runtime of `nodejs24` functions: takes events from the Runtime API on a unix socket and gives them to the
 * handler, as AWS's own client does, whose words for errors it uses. It runs in a container that may have been started
 * before anyone knew which function it is for (a blank): then it asks for its function first, and everything that takes
 * time is already loaded. The one that knows since its start has `_HANDLER` in its environment.
 *
 * The process at the other end may be killed and come back. A runtime keeps its function over that and just asks on.
 */
import process from 'node:process'
import { awslambda } from './response-stream.js'
import { describeError } from './describe-error.js'
import { writeError, writeConsole } from './console-lines.js'
import { loadHandler, warmLoader } from './load-handler.js'
import { runInvocations } from './invocations.js'
import { connectRuntimeApi } from './runtime-api.js'

/** The codes with which AWS's client ends, too. */
const EXIT = { init: 1, rejection: 128, exception: 129 }

const api = connectRuntimeApi(process.argv[2] ?? process.env.ISOLA_RUNTIME_API ?? '/run/isola/api.sock')
/** What fails when something is thrown that nothing catches. */
const state = {
  invocation: undefined,
  isStarting: true,
  isEnding: false,
  isFailing: false,
  requestId: undefined,
}

process.on('uncaughtException', (error) => void endWith(error, EXIT.exception))
process.on('unhandledRejection', (reason) => {
  const message = reason instanceof Error ? String(reason) : describeError(reason).errorMessage
  const error = Object.assign(new Error(message, { cause: reason }), {
    name: 'Runtime.UnhandledPromiseRejection',
  })
  if (reason instanceof Error) error.stack = reason.stack
  void endWith(error, EXIT.rejection)
})
// The first process of a container ignores a signal that it has no listener for.
process.on('SIGTERM', () => {
  if (process.listenerCount('SIGTERM') > 1) return
  state.isEnding = true
  if (state.invocation === undefined) process.exit(0)
})

// A handler that waits for what never comes takes its time and is told so; else Node would end for want of work.
setInterval(() => undefined, 2 ** 30)

globalThis.awslambda = awslambda
const claimed = process.env['_HANDLER'] === undefined ? await claimFunction() : undefined
for (const name of Object.keys(process.env)) if (name.startsWith('ISOLA_')) delete process.env[name]
if (claimed !== undefined) Object.assign(process.env, claimed.environment)
const taskRoot = claimed?.taskRoot ?? process.env.LAMBDA_TASK_ROOT ?? '/var/task'
process.env.LAMBDA_TASK_ROOT ??= taskRoot
process.env['_HANDLER'] ??= claimed?.handler
process.env.AWS_EXECUTION_ENV ??= 'AWS_Lambda_nodejs24.x'
process.chdir(taskRoot)
writeConsole(() => state.requestId)

let handler
try {
  handler = await loadHandler({ taskRoot, handler: claimed?.handler ?? process.env['_HANDLER'] })
} catch (error) {
  await endWith(error, EXIT.init)
}
state.isStarting = false
await runInvocations({ api, handler, state })

async function claimFunction() {
  await Promise.all([warmLoader(), api.warm()])
  return api.claim()
}

/** Tells who waits, and ends. A second failure meanwhile changes nothing. */
async function endWith(error, exitCode) {
  if (state.isFailing) return new Promise(() => {})
  state.isFailing = true
  const { invocation } = state
  const label = state.isStarting
    ? 'Init Error'
    : exitCode === EXIT.rejection
      ? 'Unhandled Rejection'
      : 'Uncaught Exception'
  writeError(label, error, state.requestId)
  if (state.isStarting) await api.failInit(describeError(error))
  else if (invocation !== undefined) await invocation.fail(error)
  process.exit(exitCode)
}
