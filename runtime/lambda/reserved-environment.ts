/**
 * Environment variables that AWS's runtimes and libraries expect. A function's own cannot take the names that AWS reserves;
 * those it only presets, it may change.
 */
const REGION = 'us-east-1'
const ACCOUNT_ID = '000000000000'

export interface ReservedEnvironmentOptions {
  readonly functionName: string
  readonly handler: string
  readonly memoryMib: number
  /** Of the environment; AWS names log streams by it. */
  readonly id: string
  /** `host:port`; absent for isola's own clients, which have a socket. */
  readonly runtimeApi?: string
}

/** `own` with what the Runtime API promises beside it. */
export function lambdaVariables(
  options: ReservedEnvironmentOptions,
  own: Readonly<Record<string, string>>,
): Record<string, string> {
  const { functionName, handler, memoryMib, id, runtimeApi } = options
  return {
    AWS_REGION: REGION,
    AWS_DEFAULT_REGION: REGION,
    TZ: ':UTC',
    LANG: 'en_US.UTF-8',
    ...own,
    _HANDLER: handler,
    LAMBDA_TASK_ROOT: '/var/task',
    LAMBDA_RUNTIME_DIR: '/var/runtime',
    AWS_LAMBDA_FUNCTION_NAME: functionName,
    AWS_LAMBDA_FUNCTION_VERSION: '$LATEST',
    AWS_LAMBDA_FUNCTION_MEMORY_SIZE: String(memoryMib),
    AWS_LAMBDA_LOG_GROUP_NAME: `/aws/lambda/${functionName}`,
    AWS_LAMBDA_LOG_STREAM_NAME: id,
    AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand',
    ...(runtimeApi === undefined ? {} : { AWS_LAMBDA_RUNTIME_API: runtimeApi }),
  }
}

export function functionArn(functionName: string): string {
  return `arn:aws:lambda:${REGION}:${ACCOUNT_ID}:function:${functionName}`
}
