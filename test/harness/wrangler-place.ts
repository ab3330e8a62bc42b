/**
 * wrangler's API on a real registry and a real secret box, served over real HTTP. Faked is only what the node does: trial
 * starts, and the router's word that a generation is in force. Requests are as wrangler sends them.
 */
import { serve } from '@hono/node-server'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openSecretBox, type SecretBox } from '../../runtime/registry/secret-box.ts'
import { createWranglerApi } from '../../wrangler-compat/api/api.ts'
import { ACCOUNT_ID, type WranglerApiPorts } from '../../wrangler-compat/api/ports.ts'
import { openControlPlace, TOKEN, type ControlPlace } from './control-place.ts'

export const SCRIPTS = `/accounts/${ACCOUNT_ID}/workers/scripts`
export const WORKERS = `/accounts/${ACCOUNT_ID}/workers`
export const HELLO = 'export default { fetch() { return new Response("hello") } }'

export interface WranglerPlace extends Omit<ControlPlace, 'call' | 'url' | 'ports'> {
  /** Of the API: what `CLOUDFLARE_API_BASE_URL` is. */
  readonly url: string
  readonly wranglerPorts: WranglerApiPorts
  readonly secrets: SecretBox
  readonly call: (method: string, path: string, body?: unknown, init?: RequestInit) => Promise<Answer>
}

export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly success: boolean
  readonly errors: readonly { readonly code: number; readonly message: string }[]
  // oxlint-disable-next-line typescript/no-explicit-any -- of any shape: tests say which
  readonly result: any
  readonly result_info?: unknown
}

export interface TestModule {
  readonly name: string
  readonly body: string | Uint8Array
  readonly type?: string
}

/** The form of an upload; of modules the first is the main one unless the metadata says otherwise. */
export function uploadForm(
  metadata: Readonly<Record<string, unknown>>,
  modules: readonly TestModule[] = [{ name: 'index.js', body: HELLO }],
  { isMetadataLast = false } = {},
): FormData {
  const form = new FormData()
  const [main] = modules
  const isNamed = 'main_module' in metadata || 'body_part' in metadata || main === undefined
  const whole = {
    compatibility_date: '2026-11-01',
    ...(!isNamed && { main_module: main.name }),
    ...metadata,
  }
  const put = (): void => form.set('metadata', JSON.stringify(whole))
  if (!isMetadataLast) put()
  for (const { name, body, type = 'application/javascript+module' } of modules) {
    form.set(name, new File([typeof body === 'string' ? body : new Uint8Array(body)], name, { type }), name)
  }
  if (isMetadataLast) put()
  return form
}

export async function openWranglerPlace(): Promise<WranglerPlace> {
  const control = await openControlPlace()
  const directory = await mkdtemp(join(tmpdir(), 'isola-wrangler-'))
  const secrets = openSecretBox(join(directory, 'fleet.key'))
  const wranglerPorts: WranglerApiPorts = {
    ...control.ports,
    accountId: ACCOUNT_ID,
    token: TOKEN,
    secrets,
    onFault: (error) => control.faults.push(error),
  }
  const api = createWranglerApi(wranglerPorts)
  const server = serve({ fetch: (request) => api(request), port: 0, hostname: '127.0.0.1' }) as Server
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/client/v4`
  return {
    ...control,
    wranglerPorts,
    secrets,
    url,
    call: (method, path, body, init) => callApi(url, method, path, body, init),
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
      await control.close()
      await rm(directory, { recursive: true })
    },
  }
}

async function callApi(
  url: string,
  method: string,
  path: string,
  body?: unknown,
  init: RequestInit = {},
): Promise<Answer> {
  const isRaw = body instanceof FormData || typeof body === 'string' || body instanceof Uint8Array
  const response = await fetch(`${url}${path}`, {
    method,
    ...(body !== undefined && { body: isRaw ? (body as string | FormData) : JSON.stringify(body) }),
    ...init,
    headers: { authorization: `Bearer ${TOKEN}`, ...(init.headers as Record<string, string> | undefined) },
  })
  const answer = (await response.json()) as Omit<Answer, 'status' | 'headers'>
  return { ...answer, status: response.status, headers: response.headers }
}
