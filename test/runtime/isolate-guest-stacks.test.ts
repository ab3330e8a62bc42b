import { build } from 'esbuild'
import { describe, expect, test } from 'vitest'
import { createStackMapper } from '../../runtime/isolate/stack-map.ts'
import { withRunningGuest } from '../harness/guest-instance.ts'

const SOURCE = `interface Item { price: number }

function total(items: Item[] | undefined): number {
  return items!.map((item) => item.price).reduce((a, b) => a + b)
}

export default {
  async fetch(request: Request): Promise<Response> {
    if (request.url.endsWith('/log')) { console.error('caught', new Error('seen')); return new Response('') }
    await null
    return new Response(String(total(undefined)))
  },
}
`

async function bundled(): Promise<Record<'index.js' | 'index.js.map', string>> {
  const { outputFiles } = await build({
    stdin: { contents: SOURCE, sourcefile: 'src/shop.ts', loader: 'ts' },
    bundle: true,
    minify: true,
    format: 'esm',
    sourcemap: 'external',
    outfile: 'index.js',
    write: false,
  })
  const text = (ending: string): string => outputFiles.find(({ path }) => path.endsWith(ending))!.text
  return { 'index.js': text('index.js'), 'index.js.map': text('index.js.map') }
}

describe('stacks', () => {
  // Before and after workerd's module registry began to name modules by URL.
  test.each(['2026-11-01', '2026-11-17'])(
    'show the lines of the sources at compatibility date %s',
    async (compatibilityDate) =>
      withRunningGuest({ modules: await bundled(), compatibilityDate }, async (instance) => {
        await instance.get('/')
        const { message, stack } = await instance.line(({ source }) => source === 'exception')
        expect(message).toBe("TypeError: Cannot read properties of undefined (reading 'map')")
        expect(
          stack!
            .split('\n')
            .slice(1)
            .map((line) => line.replace(/^.*?\(?(\S+:\d+:\d+)\)?$/, '$1')),
        ).toEqual(['src/shop.ts:4:17', 'src/shop.ts:11:32'])
        await instance.get('/log')
        const logged = await instance.line(({ source }) => source === 'console')
        expect(logged.message).toMatch(/^caught Error: seen\n.*src\/shop\.ts:9:\d+\)?$/)
      }),
  )

  test('name modules as in the bundle where there is no map, or one that cannot be read', () => {
    const stack =
      'Error: x\n    at f (file:///bundle/my%20main.js:1:2)\n    at async lib/a.js:3:4\n    at g (b.js:5:6)'
    const plain = 'Error: x\n    at f (my main.js:1:2)\n    at async lib/a.js:3:4\n    at g (b.js:5:6)'
    expect(createStackMapper(new Map())(stack)).toBe(plain)
    expect(createStackMapper(new Map([['b.js.map', Buffer.from('{broken')]]))(stack)).toBe(plain)
    expect(
      createStackMapper(new Map([['b.js.map', Buffer.from('{"version":3,"sources":[],"mappings":"!"}')]]))(
        stack,
      ),
    ).toBe(plain)
  })

  test('are not believed: a place that no source has, made up by a function, stays as it is written', async () => {
    const { 'index.js.map': map } = await bundled()
    const mapStack = createStackMapper(new Map([['index.js.map', Buffer.from(map)]]))
    const made =
      'x\n    at f (index.js:0:0)\n    at g (index.js:999999999:999999999)\n    at h (index.js:1:99999999999999999999)'
    expect(mapStack(made)).toBe(made)
  })

  test('leave text alone that only looks like a position', () => {
    const text = 'meet at 10:30:20 (at x:1)\nfrom https://a.example:8080/x:1:2'
    expect(createStackMapper(new Map())(text)).toBe(text)
  })

  test('take no time that grows with the square of a text made of nothing but beginnings', () => {
    // Minutes, which the test would not be given, where a name may be of any length.
    for (const beginning of ['at ', '(', 'at async ']) {
      const text = beginning.repeat(400_000)
      expect(createStackMapper(new Map())(text)).toBe(text)
    }
  })

  test('parse a map when it is first needed, once', async () => {
    const { 'index.js.map': map } = await bundled()
    let reads = 0
    const maps = new Map([['index.js.map', Buffer.from(map)]])
    const counted = { get: (name: string) => (reads++, maps.get(name)) } as unknown as ReadonlyMap<
      string,
      Uint8Array
    >
    const mapStack = createStackMapper(counted)
    expect(reads).toBe(0)
    const mapped = mapStack('Error\n    at index.js:1:20')
    expect(mapped).toContain('src/shop.ts:')
    expect(mapStack('Error\n    at index.js:1:20')).toBe(mapped)
    expect(reads).toBe(1)
    // Names that a function makes up are not kept, or it could fill the agent's memory with them.
    for (let time = 0; time < 2; time++) mapStack('Error\n    at made-up.js:1:20')
    expect(reads).toBe(3)
  })
})
