/**
 * Load from a process of its own, so that neither the bench nor what is measured disturbs its clock.
 * Started with its orders as JSON in the first argument; prints its result as one line of JSON.
 */
import { fork } from 'node:child_process'
import { runOpenLoop, type OpenLoopOptions, type OpenLoopResult } from './open-loop.ts'
import { runWebSockets, type WebSocketOptions, type WebSocketResult } from './web-socket-load.ts'

type Orders =
  | { readonly kind: 'open-loop'; readonly options: OpenLoopOptions }
  | { readonly kind: 'web-sockets'; readonly options: WebSocketOptions }

export function openLoopProcess(options: OpenLoopOptions): Promise<OpenLoopResult> {
  return inOwnProcess({ kind: 'open-loop', options })
}

export function webSocketProcess(options: WebSocketOptions): Promise<WebSocketResult> {
  return inOwnProcess({ kind: 'web-sockets', options })
}

function inOwnProcess<Result>(orders: Orders): Promise<Result> {
  return new Promise((resolve, reject) => {
    const child = fork(import.meta.filename, [JSON.stringify(orders)], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    child.once('message', (message) => resolve(message as Result))
    child.once('error', reject)
    child.once('exit', (code) => reject(new Error(`the load generator ended with ${code} and no result`)))
  })
}

if (process.argv[1] === import.meta.filename) {
  const orders = JSON.parse(process.argv[2] ?? '') as Orders
  const result =
    orders.kind === 'open-loop' ? await runOpenLoop(orders.options) : await runWebSockets(orders.options)
  process.send?.(result, () => process.exit(0))
}
