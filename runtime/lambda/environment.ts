/**
 * One container: what it is to run, the invocations that wait for it and those it is at. Everything that happens to it
 * comes through here, from the agent, from its runtime, from its callers and from the clock; doors only translate.
 * A runtime may be hostile: it can spoil its own invocations, and nothing else.
 */
import type { ServerResponse } from 'node:http'
import { CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import { ActiveInvocation } from './active-invocation.ts'
import { Extensions } from './extensions.ts'
import {
  exited,
  exitWords,
  extensionFailed,
  readErrorDocument,
  reported,
  timedOut,
  type FunctionFailure,
} from './function-failure.ts'
import { createInvocationLog, type InvocationLog } from './invocation-log.ts'
import type { Invocation } from './invocation.ts'
import { PollQueue } from './poll-queue.ts'
import { functionArn, lambdaVariables } from './reserved-environment.ts'
import { answerJson, refuseState } from './runtime-answer.ts'
import type { EnvironmentEnd, LambdaFunction, LambdaToAgent } from './wire.ts'

export interface EnvironmentOptions {
  readonly id: string
  readonly send: (message: LambdaToAgent) => void
  readonly log: (line: LogLine) => void
  /** It takes no invocation any more; called before those it has are answered. */
  readonly onOver: () => void
}

/** `over`: its container has ended or must. */
type Phase = 'blank' | 'starting' | 'ready' | 'over'

export class Environment {
  readonly id: string
  readonly extensions: Extensions
  readonly #options: EnvironmentOptions
  readonly #claims = new PollQueue()
  readonly #polls = new PollQueue()
  readonly #activeById = new Map<string, ActiveInvocation>()
  #pending: Invocation[] = []
  #phase: Phase = 'blank'
  #function: LambdaFunction | undefined
  #log: InvocationLog | undefined
  #startedAtMs = 0
  #initMs = 0
  #isFirst = true
  #askedForFunction = false
  #initTimer: NodeJS.Timeout | undefined
  /** Runs while invocations wait, none is under way, and the runtime does not come for one. */
  #stallTimer: NodeJS.Timeout | undefined
  /** What the agent must know about it, said again to each agent. */
  #said: LambdaToAgent | undefined

  constructor(options: EnvironmentOptions) {
    this.#options = options
    this.id = options.id
    this.extensions = new Extensions({
      describe: () =>
        this.#function === undefined
          ? undefined
          : {
              functionName: this.#function.functionName,
              functionVersion: '$LATEST',
              handler: this.#function.handler,
            },
      isOpen: () => this.#phase === 'starting',
      onNext: () => this.#goOn(),
      onFailed: ({ errorType, name }) => this.#extensionFailed(errorType, name),
    })
  }

  get function(): LambdaFunction | undefined {
    return this.#function
  }

  get isOver(): boolean {
    return this.#phase === 'over'
  }

  // From the agent.

  claim(fn: LambdaFunction): void {
    if (this.#phase !== 'blank') return
    this.#function = fn
    this.#phase = 'starting'
    this.#said = undefined
    this.#startedAtMs = performance.now()
    this.#log = createInvocationLog({ fn, instanceId: this.id, send: this.#options.log })
    const initTimeoutMs = fn.initTimeoutMs > 0 ? fn.initTimeoutMs : CONTAINER_LIMITS.initTimeoutMs
    this.#initTimer = setTimeout(() => {
      const after = `${(initTimeoutMs / 1000).toFixed(2)} seconds`
      this.#initFailed('Sandbox.Timedout', `the runtime did not ask for its first event within ${after}`)
    }, initTimeoutMs)
    for (const poll of this.#claims.takeAll()) this.#answerClaim(poll)
  }

  ended(end: EnvironmentEnd): void {
    if (this.#phase === 'blank') this.#over('failure')
    else if (this.#phase === 'starting') {
      this.#initFailed(end.outOfMemory ? 'Runtime.OutOfMemory' : 'Runtime.ExitError', exitWords(end))
    }
    this.#over('failure')
    this.#failAll((requestId) =>
      exited({ ...this.#subject(requestId), memoryMib: this.#function?.memoryMib ?? 0 }, end),
    )
  }

  /** Its container is being stopped in an orderly way. */
  ending(): void {
    this.extensions.shutDown('spindown')
  }

  /** Nobody waits for anything of it any more. */
  close(): void {
    this.ended({ outOfMemory: false })
    this.#said = undefined
  }

  /** To an agent that is new. */
  tell(): void {
    if (this.#said !== undefined) this.#options.send(this.#said)
  }

  // From the runtime.

  waitForClaim(response: ServerResponse): void {
    if (this.#phase === 'over') refuseState(response, 'The environment is over.')
    else if (this.#function !== undefined) this.#answerClaim(response)
    else {
      this.#claims.add(response)
      if (this.#askedForFunction) return
      this.#askedForFunction = true
      this.#say({ type: 'waiting', id: this.id })
    }
  }

  next(response: ServerResponse): void {
    if (this.#phase === 'blank') refuseState(response, 'It has no function yet: ask for the claim first.')
    else if (this.#phase === 'over') refuseState(response, 'The environment is over.')
    else {
      this.#polls.add(response)
      this.#goOn()
    }
  }

  /** For an answer. Undefined where nobody waits for one of that id, or one has come already. */
  takeForAnswer(id: string): ActiveInvocation | undefined {
    const active = this.#activeById.get(id)
    if (active === undefined || active.isAnswered) return undefined
    active.isAnswered = true
    return active
  }

  /** False where it is too late for that. */
  initError(body: Buffer, headerType: string | undefined): boolean {
    if (this.#phase !== 'starting') return false
    const { errorType, errorMessage } = readErrorDocument(body, headerType)
    this.#initFailed(errorType, errorMessage, reported(this.#subject(''), { body, headerType }))
    return true
  }

  // From callers.

  /** False where it can take none: it has not been given to the function. */
  invoke(invocation: Invocation): boolean {
    if (this.#phase === 'over' || this.#phase === 'blank') return false
    this.#pending.push(invocation)
    this.#pump()
    return true
  }

  hasRequest(id: string): boolean {
    return this.#activeById.has(id) || this.#pending.some((invocation) => invocation.id === id)
  }

  // Inside.

  #goOn(): void {
    if (this.#phase === 'starting' && this.#polls.length > 0 && this.extensions.areReady) {
      clearTimeout(this.#initTimer)
      this.#phase = 'ready'
      this.#initMs = performance.now() - this.#startedAtMs
      this.#say({ type: 'ready', id: this.id, initMs: this.#initMs })
    }
    this.#pump()
  }

  #pump(): void {
    while (this.#phase === 'ready' && this.#pending.length > 0) {
      if (this.#polls.length === 0 || !this.extensions.areIdle) break
      const invocation = this.#pending.shift()!
      // Nobody waits for it, and nobody has begun it.
      if (!invocation.caller.isGone) this.#deliver(invocation, this.#polls.take()!)
    }
    const isStuck = this.#phase === 'ready' && this.#pending.length > 0 && this.#activeById.size === 0
    if (!isStuck) {
      clearTimeout(this.#stallTimer)
      this.#stallTimer = undefined
    } else this.#stallTimer ??= setTimeout(() => this.#timeOut(undefined), this.#function!.timeoutMs)
  }

  #deliver(invocation: Invocation, poll: ServerResponse): void {
    const fn = this.#function!
    const active = new ActiveInvocation({
      invocation,
      timeoutMs: fn.timeoutMs,
      onTimeout: (active) => this.#timeOut(active),
      onSettled: (active, failure) => this.#settled(active, failure),
    })
    this.#activeById.set(invocation.id, active)
    const invokedArn = invocation.invokedArn ?? functionArn(fn.functionName)
    const headers: Record<string, string | number> = {
      'Content-Type': 'application/json',
      'Content-Length': invocation.event.length,
      'Lambda-Runtime-Aws-Request-Id': invocation.id,
      'Lambda-Runtime-Deadline-Ms': active.deadlineMs,
      'Lambda-Runtime-Invoked-Function-Arn': invokedArn,
      'Lambda-Runtime-Trace-Id': invocation.traceId,
    }
    if (invocation.clientContext !== undefined) {
      headers['Lambda-Runtime-Client-Context'] = invocation.clientContext
    }
    poll.once('close', () => {
      if (!poll.writableFinished) this.#notDelivered(active)
    })
    this.#log?.start(invocation.id)
    poll.writeHead(200, headers)
    poll.end(invocation.event)
    this.extensions.tellInvoke({
      deadlineMs: active.deadlineMs,
      requestId: invocation.id,
      invokedFunctionArn: invokedArn,
      traceId: invocation.traceId,
    })
  }

  /** The runtime went away before it had the whole event, so it cannot have begun: another one gets it. */
  #notDelivered(active: ActiveInvocation): void {
    if (active.isSettled || active.isAnswered || this.#phase !== 'ready') return
    active.withdraw()
    this.#activeById.delete(active.invocation.id)
    this.#pending.unshift(active.invocation)
    this.#pump()
  }

  #settled(active: ActiveInvocation, failure: FunctionFailure | undefined): void {
    this.#activeById.delete(active.invocation.id)
    const initMs = this.#isFirst ? this.#initMs : undefined
    this.#isFirst = false
    const durationMs = performance.now() - active.startedAtMs
    this.#log?.end(active.invocation.id, { durationMs, initMs, failure })
    this.#pump()
  }

  /** `active`: undefined where the runtime, or an extension, does not come back for what waits. */
  #timeOut(active: ActiveInvocation | undefined): void {
    const { timeoutMs } = this.#function!
    const after = `${(timeoutMs / 1000).toFixed(2)} seconds`
    const message =
      active === undefined
        ? `the runtime or an extension did not ask for the next event within ${after}`
        : `invocation ${active.invocation.id} timed out after ${after}`
    this.#over('timeout')
    active?.fail(timedOut(this.#subject(active.invocation.id), timeoutMs))
    this.#say({ type: 'timed-out', id: this.id, message })
    this.#failPending((requestId) => timedOut(this.#subject(requestId), timeoutMs))
  }

  #initFailed(errorType: string, message: string, failure?: FunctionFailure): void {
    this.#over('failure')
    this.#say({ type: 'init-failed', id: this.id, errorType, message })
    const body = Buffer.from(JSON.stringify({ errorType, errorMessage: message }))
    const report = { body, headerType: errorType }
    this.#failPending((requestId) => failure ?? reported(this.#subject(requestId), report))
  }

  #extensionFailed(errorType: string, name: string): void {
    if (this.#phase === 'starting') this.#initFailed(errorType, `extension "${name}" failed`)
    if (this.#phase !== 'ready') return
    this.#over('failure')
    this.#failAll((requestId) => extensionFailed(this.#subject(requestId), errorType, name))
    this.#say({ type: 'timed-out', id: this.id, message: `extension "${name}" failed: ${errorType}` })
  }

  #over(reason: 'timeout' | 'failure'): void {
    if (this.#phase === 'over') return
    this.#phase = 'over'
    clearTimeout(this.#initTimer)
    clearTimeout(this.#stallTimer)
    this.#options.onOver()
    for (const poll of [...this.#claims.takeAll(), ...this.#polls.takeAll()]) {
      refuseState(poll, 'The environment is over.')
    }
    this.extensions.shutDown(reason)
  }

  #failAll(failureOf: (requestId: string) => FunctionFailure): void {
    for (const active of this.#activeById.values()) active.fail(failureOf(active.invocation.id))
    this.#failPending(failureOf)
  }

  #failPending(failureOf: (requestId: string) => FunctionFailure): void {
    const pending = this.#pending
    this.#pending = []
    for (const { id, caller } of pending) caller.fail(failureOf(id))
  }

  #answerClaim(response: ServerResponse): void {
    const { handler, functionName, memoryMib, environment } = this.#function!
    const options = { functionName, handler, memoryMib, id: this.id }
    answerJson(response, 200, {
      handler,
      environment: lambdaVariables(options, environment),
      taskRoot: '/var/task',
    })
  }

  #say(message: LambdaToAgent): void {
    this.#said = message
    this.#options.send(message)
  }

  #subject(requestId: string): { readonly functionName: string; readonly requestId: string } {
    return { functionName: this.#function?.functionName ?? '', requestId }
  }
}
