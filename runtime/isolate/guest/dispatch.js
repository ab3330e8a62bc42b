/**
 * The object behind a dispatch binding. `get()` never fails by itself for a script that is not there, as on Cloudflare: the
 * call does. What a caller asks for beyond the call (limits, an outbound Worker) is refused, because a caller that believes
 * in a restriction must not run without it.
 */
const NativeError = Error
const NativeTypeError = TypeError
const NativeRequest = Request

const SCRIPT_HEADER = 'isola-dispatch-script'
/** The proxy's own; no function's answer carries it. */
const ERROR_HEADER = 'isola-error'

class DispatchNamespace {
  #namespace

  constructor(namespace) {
    this.#namespace = namespace
  }

  get(name, args, options) {
    if (typeof name !== 'string' || name === '') {
      throw new NativeTypeError('get() of a dispatch namespace needs the name of a Worker: a string')
    }
    refuse(args ?? {}, () => 'arguments for an outbound Worker')
    refuse(options ?? {}, (key) => `the option "${key}"`)
    return new UserWorker(this.#namespace, name)
  }
}

function refuse(given, nameOf) {
  const [key] = Object.entries(given).find(([, value]) => isSet(value)) ?? []
  if (key === undefined) return
  throw new NativeError(
    `get() of a dispatch namespace got ${nameOf(key)}, which isola does not have yet: leave it out, and set limits of the Worker itself with "isola limits"`,
  )
}

function isSet(value) {
  if (typeof value === 'object' && value !== null) return Object.values(value).some(isSet)
  return value !== undefined && value !== null
}

class UserWorker {
  #namespace
  #name

  constructor(namespace, name) {
    this.#namespace = namespace
    this.#name = name
  }

  async fetch(input, init) {
    const request = new NativeRequest(input, init)
    request.headers.set(SCRIPT_HEADER, encodeURIComponent(this.#name.toWellFormed()))
    const response = await this.#namespace.fetch(request)
    if (response.headers.get(ERROR_HEADER) === 'function_not_found') {
      await response.body?.cancel()
      throw new NativeError('Worker not found.')
    }
    return response
  }

  connect() {
    throw new NativeError('a Worker of a dispatch namespace takes no TCP connections here: use its fetch()')
  }
}

// oxlint-disable-next-line import/no-default-export -- workerd takes the default export for what makes the binding
export default ({ namespace }) => new DispatchNamespace(namespace)
