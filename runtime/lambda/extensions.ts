/**
 * Extensions of one environment: they register while the function starts, are told of every invocation, and hold back
 * the next one until all that asked for INVOKE are back.
 */
import { randomUUID } from 'node:crypto'
import type { IncomingHttpHeaders, ServerResponse } from 'node:http'
import { LAMBDA_LIMITS } from '../../sdk/model/limits.ts'
import { accept, answerJson, refuse } from './runtime-answer.ts'

export interface ExtensionEvent {
  readonly deadlineMs: number
  readonly requestId: string
  readonly invokedFunctionArn: string
  readonly traceId: string
}

interface Extension {
  readonly id: string
  readonly name: string
  readonly wantsInvoke: boolean
  readonly wantsShutdown: boolean
  /** It has asked for an event at least once. */
  isReady: boolean
  poll: ServerResponse | undefined
}

export interface ExtensionsOptions {
  /** What registering answers; undefined while there is no function. */
  readonly describe: () => { functionName: string; functionVersion: string; handler: string } | undefined
  readonly isOpen: () => boolean
  /** An extension asks for its next event: something may go on. */
  readonly onNext: () => void
  readonly onFailed: (failure: { readonly errorType: string; readonly name: string }) => void
}

export class Extensions {
  readonly #options: ExtensionsOptions
  readonly #byId = new Map<string, Extension>()
  #shutdownReason: string | undefined

  constructor(options: ExtensionsOptions) {
    this.#options = options
  }

  /** All that registered have asked for their first event. */
  get areReady(): boolean {
    for (const extension of this.#byId.values()) if (!extension.isReady) return false
    return true
  }

  /** Nobody still works on an earlier invocation. */
  get areIdle(): boolean {
    for (const { wantsInvoke, poll } of this.#byId.values())
      if (wantsInvoke && poll === undefined) return false
    return true
  }

  register(headers: IncomingHttpHeaders, body: Buffer | undefined, response: ServerResponse): void {
    const name = oneHeader(headers['lambda-extension-name'])
    if (name === undefined || !NAME.test(name)) {
      return deny(
        response,
        'Extension.InvalidExtensionName',
        'Header Lambda-Extension-Name is missing or no file name.',
      )
    }
    const events = body === undefined ? undefined : readEvents(body)
    if (events === undefined) {
      return deny(response, 'InvalidRequestFormat', 'The body is not {"events": ["INVOKE", "SHUTDOWN"]}.')
    }
    const unknown = events.find((event) => event !== 'INVOKE' && event !== 'SHUTDOWN')
    if (unknown !== undefined) {
      const shown = JSON.stringify(unknown).slice(0, 100)
      return deny(response, 'Extension.InvalidEventType', `Event ${shown} does not exist.`)
    }
    const description = this.#options.describe()
    if (!this.#options.isOpen() || description === undefined) {
      return deny(
        response,
        'Extension.RegistrationClosed',
        'Extensions register before the first invocation.',
      )
    }
    if ([...this.#byId.values()].some((extension) => extension.name === name)) {
      return deny(response, 'Extension.InvalidExtensionState', `Extension ${name} is registered already.`)
    }
    if (this.#byId.size >= LAMBDA_LIMITS.extensionsMax) {
      const most = `An environment has at most ${LAMBDA_LIMITS.extensionsMax} extensions.`
      return deny(response, 'Extension.TooManyExtensions', most)
    }
    const id = randomUUID()
    this.#byId.set(id, {
      id,
      name,
      wantsInvoke: events.includes('INVOKE'),
      wantsShutdown: events.includes('SHUTDOWN'),
      isReady: false,
      poll: undefined,
    })
    const features = oneHeader(headers['lambda-extension-accept-feature'])?.split(',') ?? []
    const account = features.some((feature) => feature.trim() === 'accountId')
    const answer = account ? { ...description, accountId: '000000000000' } : description
    return answerJson(response, 200, answer, { 'Lambda-Extension-Identifier': id })
  }

  next(headers: IncomingHttpHeaders, response: ServerResponse): void {
    const extension = this.#find(headers, response)
    if (extension === undefined) return
    if (extension.poll !== undefined) {
      return deny(response, 'Extension.InvalidExtensionState', 'It waits for its next event already.')
    }
    extension.isReady = true
    extension.poll = response
    response.once('close', () => {
      if (extension.poll === response) extension.poll = undefined
    })
    if (this.#shutdownReason !== undefined) this.#tellShutdown(extension)
    else this.#options.onNext()
  }

  /** `init/error` and `exit/error`. */
  fail(phase: 'init' | 'exit', headers: IncomingHttpHeaders, response: ServerResponse): void {
    const extension = this.#find(headers, response)
    if (extension === undefined) return
    if (oneHeader(headers['lambda-extension-function-error-type']) === undefined) {
      const message = 'Header Lambda-Extension-Function-Error-Type is missing.'
      return deny(response, 'Extension.MissingHeader', message)
    }
    accept(response)
    const errorType = phase === 'init' ? 'Extension.InitError' : 'Extension.ExitError'
    this.#options.onFailed({ errorType, name: extension.name })
  }

  tellInvoke(event: ExtensionEvent): void {
    for (const extension of this.#byId.values()) {
      if (!extension.wantsInvoke) continue
      const { traceId, ...rest } = event
      this.#tell(extension, {
        eventType: 'INVOKE',
        ...rest,
        tracing: { type: 'X-Amzn-Trace-Id', value: traceId },
      })
    }
  }

  /** Those that are still at something hear it when they ask next. */
  shutDown(reason: 'spindown' | 'timeout' | 'failure'): void {
    if (this.#shutdownReason !== undefined) return
    this.#shutdownReason = reason
    for (const extension of this.#byId.values()) this.#tellShutdown(extension)
  }

  #tellShutdown(extension: Extension): void {
    if (!extension.wantsShutdown || extension.poll === undefined) return
    const deadlineMs = Date.now() + LAMBDA_LIMITS.shutdownMs
    this.#tell(extension, { eventType: 'SHUTDOWN', shutdownReason: this.#shutdownReason, deadlineMs })
  }

  #tell(extension: Extension, event: unknown): void {
    const { poll } = extension
    extension.poll = undefined
    if (poll !== undefined)
      answerJson(poll, 200, event, { 'Lambda-Extension-Event-Identifier': randomUUID() })
  }

  #find(headers: IncomingHttpHeaders, response: ServerResponse): Extension | undefined {
    const id = oneHeader(headers['lambda-extension-identifier'])
    if (id === undefined) {
      const message = 'Header Lambda-Extension-Identifier is missing.'
      return deny(response, 'Extension.MissingExtensionIdentifier', message)
    }
    if (!UUID.test(id)) {
      return deny(response, 'Extension.InvalidExtensionIdentifier', 'The identifier is no UUID.')
    }
    const extension = this.#byId.get(id.toLowerCase())
    if (extension !== undefined) return extension
    return deny(
      response,
      'Extension.UnknownExtensionIdentifier',
      'No extension has this identifier: register first.',
    )
  }
}

const NAME = /^[^/\0]{1,128}$/
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

function oneHeader(value: string | string[] | undefined): string | undefined {
  const text = typeof value === 'string' ? value : value?.[0]
  return text === '' ? undefined : text
}

function readEvents(body: Buffer): unknown[] | undefined {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'))
    const events = typeof value === 'object' && value !== null && 'events' in value ? value.events : undefined
    return Array.isArray(events) ? (events as unknown[]) : undefined
  } catch {
    return undefined
  }
}

function deny(response: ServerResponse, errorType: string, errorMessage: string): undefined {
  refuse(response, { status: 403, errorType, errorMessage })
  return undefined
}
