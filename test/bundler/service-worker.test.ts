import { expect, test } from 'vitest'
import { bundle } from '../../bundler/bundle.ts'
import { buildOptions, temporaryProject } from './temporary-project.ts'

const SCRIPT = `addEventListener('fetch', (event) => event.respondWith(new Response('x')))\n`

test('a main file that exports nothing and listens is a script of the service-worker format', async () => {
  for (const more of [{}, { noBundle: true, main: 'index.js' }]) {
    const files = { 'index.ts': SCRIPT, 'index.js': SCRIPT }
    const { bundle: built } = await bundle(buildOptions(temporaryProject(files), more))
    expect(built.format).toBe('service-worker')
    expect(built.modules.find(({ name }) => name === built.mainModule)?.kind).toBe('cjs')
  }
})

test('one that imports at run time stays a module, and one with a default export is none', async () => {
  const importing = `import text from './words.txt'\n${SCRIPT.replace(`'x'`, 'text')}`
  const { bundle: built } = await bundle(
    buildOptions(temporaryProject({ 'index.ts': importing, 'words.txt': 'words' })),
  )
  expect(built.format).toBe('service-worker')
  expect(built.modules.find(({ name }) => name === built.mainModule)?.kind).toBe('esm')
  const both = `${SCRIPT}export default { fetch: () => new Response() }`
  expect((await bundle(buildOptions(temporaryProject({ 'index.ts': both })))).bundle.format).toBeUndefined()
})
