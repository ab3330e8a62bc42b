/** A WebAssembly module beside the code. `fibonacci.wat` is its source: `wat2wasm fibonacci.wat`. */
import fibonacciModule from './fibonacci.wasm'

// Once per instance, not per request.
const { exports } = new WebAssembly.Instance(fibonacciModule)
const fibonacci = exports.fibonacci as (n: number) => bigint

/** The 93rd no longer fits the module's signed 64 bits. */
const N_MAX = 92

export default {
  fetch(request) {
    const n = Number(new URL(request.url).searchParams.get('n') ?? 30)
    if (!Number.isInteger(n) || n < 0 || n > N_MAX) {
      return Response.json({ error: `n must be a whole number from 0 to ${N_MAX}` }, { status: 400 })
    }
    return Response.json({ n, fibonacci: String(fibonacci(n)) })
  },
} satisfies ExportedHandler
