import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isIsolaError } from '../../sdk/model/errors.ts'
import { loadConfig } from '../../wrangler-compat/config/load.ts'
import { configSchema } from '../../wrangler-compat/config/schema.ts'
import { temporaryProject, writeFiles } from '../bundler/temporary-project.ts'

const BASE = { name: 'shop', main: 'index.ts', compatibility_date: '2026-01-01' }

describe('anything at all', () => {
  const field = fc.constantFrom(
    ...Object.keys(configSchema.shape),
    '__proto__',
    'constructor',
    'toString',
    '',
  )
  const anyConfig = fc.dictionary(
    fc.oneof(field, fc.string()),
    fc.jsonValue({ maxDepth: 4 }) as fc.Arbitrary<unknown>,
  )

  async function outcome(
    directory: string,
    text: string,
    name: string,
    environment?: string,
  ): Promise<unknown> {
    writeFiles(directory, { [name]: text })
    return loadConfig({ directory, file: name, ...(environment !== undefined && { environment }) }).then(
      () => undefined,
      (error: unknown) => error,
    )
  }

  test('as JSON ends in a configuration or in an error of ours', async () => {
    const directory = temporaryProject({ 'index.ts': '' })
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(anyConfig, fc.jsonValue()),
        fc.option(fc.string(), { nil: undefined }),
        async (value, environment) => {
          const error = await outcome(directory, JSON.stringify(value), 'wrangler.json', environment)
          expect(error === undefined || isIsolaError(error)).toBe(true)
        },
      ),
      { numRuns: 500 },
    )
  })

  test('over a good configuration ends so too', async () => {
    const directory = temporaryProject({ 'index.ts': '' })
    await fc.assert(
      fc.asyncProperty(anyConfig, fc.dictionary(fc.string(), anyConfig), async (value, env) => {
        const chosen = Object.keys(env)[0]
        const error = await outcome(
          directory,
          JSON.stringify({ ...BASE, ...value, env }),
          'wrangler.json',
          chosen,
        )
        expect(error === undefined || isIsolaError(error)).toBe(true)
      }),
      { numRuns: 500 },
    )
  })

  test('as text ends in an error of ours', async () => {
    const directory = temporaryProject({ 'index.ts': '' })
    const line = fc.constantFrom(
      '[vars]',
      '[[a]]',
      '[env.x]',
      'a = 1',
      'a.b = """',
      "'''",
      '{',
      '}',
      '"',
      '[',
      ']',
      ',',
      '//',
      '/*',
      'name = "x"',
      '\u0000',
    )
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(line).map((lines) => lines.join('\n')),
    )
    await fc.assert(
      fc.asyncProperty(text, fc.constantFrom('wrangler.json', 'wrangler.toml'), async (given, name) => {
        expect(isIsolaError(await outcome(directory, given, name))).toBe(true)
      }),
      { numRuns: 500 },
    )
  })
})
