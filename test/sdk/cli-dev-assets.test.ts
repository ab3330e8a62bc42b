import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { writeFileSync } from 'node:fs'
import { expect, onTestFinished, test } from 'vitest'
import { temporaryProject } from '../bundler/temporary-project.ts'
import { ISOLA_BIN } from '../harness/node.ts'

interface Dev {
  readonly url: string
  next(): Promise<{ readonly event: string }>
}

async function startDev(directory: string): Promise<Dev> {
  const child: ChildProcess = spawn(ISOLA_BIN, ['dev', directory, '--port', '0', '--json'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(async () => {
    // Not SIGKILL: miniflare's workerd would outlive it.
    if (child.exitCode !== null) return
    child.kill('SIGTERM')
    await once(child, 'exit')
  })
  if (child.stdout === null) throw new Error('isola dev has no output')
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const next = async (): Promise<{ event: string; url?: string }> => {
    const { value, done } = await lines.next()
    if (done === true) throw new Error('isola dev ended')
    return JSON.parse(value) as { event: string; url?: string }
  }
  const { event, url = '' } = await next()
  expect(event).toBe('ready')
  return { url, next }
}

const BASE = { name: 'site', compatibility_date: '2026-11-01' }

test('isola dev serves static files without code, with their rules, and again when one changes', async () => {
  const directory = temporaryProject({
    'public/index.html': 'home',
    'public/about.html': 'about',
    'public/404.html': 'nothing here',
    'public/_headers': '/*\n  x-rule: yes\n',
    'public/_redirects': '/old /about 301\n',
    'wrangler.jsonc': JSON.stringify({
      ...BASE,
      assets: { directory: 'public', not_found_handling: '404-page' },
    }),
  })
  const { url, next } = await startDev(directory)
  const home = await fetch(url)
  expect([home.status, home.headers.get('x-rule'), await home.text()]).toEqual([200, 'yes', 'home'])
  const missing = await fetch(`${url}none`)
  expect([missing.status, await missing.text()]).toEqual([404, 'nothing here'])
  const old = await fetch(`${url}old`, { redirect: 'manual' })
  expect([old.status, old.headers.get('location')]).toEqual([301, '/about'])
  writeFileSync(join(directory, 'public/index.html'), 'home, changed')
  expect((await next()).event).toBe('reloaded')
  expect(await (await fetch(url)).text()).toBe('home, changed')
})

test('isola dev serves static files in front of code, behind it by rule, and to it by its binding', async () => {
  const directory = temporaryProject({
    'public/index.html': 'home',
    'public/api/data.txt': 'data',
    'index.ts': `export default { async fetch(request: Request, env: { FILES: Fetcher }) {
      const file = await env.FILES.fetch('http://any.host/api/data.txt')
      return new Response('code, ' + (await file.text()))
    } }`,
    'wrangler.jsonc': JSON.stringify({
      ...BASE,
      main: 'index.ts',
      assets: { directory: 'public', binding: 'FILES', run_worker_first: ['/api/*'] },
    }),
  })
  const { url } = await startDev(directory)
  const text = async (path: string): Promise<string> => (await fetch(`${url}${path}`)).text()
  expect(await text('')).toBe('home')
  expect(await text('api/data.txt')).toBe('code, data')
  expect(await text('none')).toBe('code, data')
})
