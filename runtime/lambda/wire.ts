/**
 * Messages between the agent and the Lambda process, in which invocations live: it serves the Runtime API to the
 * runtimes inside containers, and HTTP to the router. It outlives the agent as the router does: the agent connects to
 * its unix socket, again after every restart, and says all it knows.
 */
import type { LogLine } from '../../sdk/model/log-line.ts'

/** What one container is to run. */
export interface LambdaFunction {
  readonly functionName: string
  readonly versionId: string
  /** `file.export`; of an image: the first word of its command. */
  readonly handler: string
  /** Of the function alone; the process adds what the Runtime API promises. Only a blank is told it: others have it since their start. */
  readonly environment: Readonly<Record<string, string>>
  readonly memoryMib: number
  /** Of one invocation. */
  readonly timeoutMs: number
  /** From the claim, or the container's start, to the first `next`. */
  readonly initTimeoutMs: number
  /** A response streams to the client; else it is collected first. */
  readonly responseStreaming: boolean
}

/** One container as the process sees it: two doors, and what comes in by one goes out by the other. */
export interface LambdaEnvironment {
  /** Of the instance. */
  readonly id: string
  /** Unix socket where the router calls the function: HTTP/1.1. */
  readonly httpSocket: string
  /** Where the runtime asks for events. */
  readonly runtimeApi:
    /** Unix socket in a directory that the container sees. For isola's own runtimes. */
    | { readonly type: 'socket'; readonly path: string }
    /** 127.0.0.1:9001 inside the network namespace of that process. For images as AWS makes them. */
    | { readonly type: 'namespace'; readonly pid: number }
  /** Absent: a blank, to be claimed. */
  readonly function?: LambdaFunction
}

export type AgentToLambda =
  /** All there are, after (re)connecting: any other is closed. */
  | { readonly type: 'environments'; readonly environments: readonly LambdaEnvironment[] }
  /** Answered by `opened` or `open-failed`. Its doors must be open before its container starts. */
  | { readonly type: 'open'; readonly environment: LambdaEnvironment }
  /** The blank becomes an instance of the function. Answered by `ready` or `init-failed`. */
  | { readonly type: 'claim'; readonly id: string; readonly function: LambdaFunction }
  /** Its container has ended: who waits for it is answered with the cause. */
  | { readonly type: 'ended'; readonly id: string; readonly end: EnvironmentEnd }
  /** Its container will be stopped within that time: extensions that asked to be told are told. Answered by nothing. */
  | { readonly type: 'ending'; readonly id: string; readonly graceMs: number }
  | { readonly type: 'close'; readonly id: string }
  | { readonly type: 'shutdown' }

/** As AWS tells the caller: an exit code or a signal, or memory that ran out. */
export interface EnvironmentEnd {
  readonly exitCode?: number
  readonly signal?: string
  readonly outOfMemory: boolean
}

export type LambdaToAgent =
  | { readonly type: 'hello'; readonly pid: number }
  | { readonly type: 'opened'; readonly id: string }
  | { readonly type: 'open-failed'; readonly id: string; readonly message: string }
  /** The runtime in a blank has asked for its function. */
  | { readonly type: 'waiting'; readonly id: string }
  /** The first `next`: it takes requests. Sent again for each environment that is ready when an agent connects. */
  | { readonly type: 'ready'; readonly id: string; readonly initMs: number }
  /** By its own words (`init/error`), by its end, or because the time was over. */
  | {
      readonly type: 'init-failed'
      readonly id: string
      readonly errorType: string
      readonly message: string
    }
  /** An invocation took too long and was answered; its container must go, because it may still be at it. */
  | { readonly type: 'timed-out'; readonly id: string; readonly message: string }
  /** START, END and REPORT of each invocation. */
  | { readonly type: 'log'; readonly lines: readonly LogLine[] }

/**
 * Headers between the router's inner door and a function of protocol `lambda`. Clients can send none that starts with
 * `isola-`. Without `invoke` a request is an HTTP request and becomes a Function URL event.
 */
export const LAMBDA_HEADERS = {
  /** Request, `event`: the body is the event, and the answer's body the result, as AWS's Invoke has them. `stream`: InvokeWithResponseStream. */
  invoke: 'isola-invoke',
  /** Request: client context, base64 of JSON. */
  clientContext: 'isola-client-context',
  /** Request: the ARN that was asked for. */
  invokedArn: 'isola-invoked-arn',
  /** Answer to `event`: `Unhandled` where the function failed; the status is 200 all the same. */
  functionError: 'isola-function-error',
} as const
