/** Secrets and scripts on the driver: what becomes of them outside of the process. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { WorkerVersion } from '../../sdk/model/function.ts'
import { ask, testDriver, versionOf } from '../harness/isolate-driver.ts'

const SECRET = 'open-sesame-and-nobody-else'

function withSecret(version: WorkerVersion): WorkerVersion {
  return {
    ...version,
    content: { ...version.content, bindings: [{ type: 'secret', name: 'KEY', sealed: 'v1.closed' }] },
  }
}

/** Every regular file below, as text. */
function textsBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .map((name) => join(directory, name))
    .filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile() === true)
    .map((path) => readFileSync(path, 'latin1'))
}

test('a secret reaches the function and no file, command line or environment', async () => {
  const place = await testDriver({ sandbox: 'none', openSecret: () => SECRET })
  onTestFinished(() => place.end())
  const main = 'export default { fetch: (request, env) => new Response(env.KEY) }'
  const instance = await place.driver.start(withSecret(versionOf({ main })))
  expect((await ask(instance.socketPath)).text).toBe(SECRET)
  const texts = textsBelow(place.runDirectory)
  expect(texts.some((text) => text.includes('v1.closed'))).toBe(true)
  for (const file of ['cmdline', 'environ'])
    texts.push(readFileSync(`/proc/${instance.pid}/${file}`, 'latin1'))
  expect(texts.filter((text) => text.includes(SECRET))).toEqual([])
})

test('a version whose secrets nobody can open does not start, and says why', async () => {
  const place = await testDriver({ sandbox: 'none' })
  onTestFinished(() => place.end())
  const main = 'export default { fetch: () => new Response() }'
  await expect(place.driver.start(withSecret(versionOf({ main })))).rejects.toThrow(
    /secret "KEY" cannot be opened/,
  )
})

test('a script without a listener for requests is told what to write', async () => {
  const place = await testDriver({ sandbox: 'none' })
  onTestFinished(() => place.end())
  const version = versionOf({ main: `addEventListener('scheduled', () => {})` })
  const script: WorkerVersion = { ...version, content: { ...version.content, format: 'service-worker' } }
  await expect(place.driver.start(script)).rejects.toMatchObject({
    code: 'start_failed',
    message: expect.stringMatching(/has no fetch handler: write `addEventListener\('fetch'/),
  })
})
