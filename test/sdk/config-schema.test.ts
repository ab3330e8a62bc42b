import { globSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { configJsonSchema, FIELDS_BY_SOURCE, SOURCE_FIELDS } from '../../sdk/config/schema.ts'
import { parseJsonDocument } from '../../sdk/config/json-document.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const SCHEMA = join(ROOT, 'sdk/config/isola.schema.json')

describe('the published JSON Schema', () => {
  test('is what is checked; if not, sdk/config/README.md says how to write it anew', () => {
    expect(JSON.parse(readFileSync(SCHEMA, 'utf8'))).toEqual(configJsonSchema())
  })

  test('describes every field but $schema, and refuses others', () => {
    const schema = configJsonSchema() as {
      properties: Record<string, { description?: string }>
      additionalProperties: boolean
    }
    expect(schema.additionalProperties).toBe(false)
    const bare = Object.entries(schema.properties).filter(
      ([, { description = '' }]) => description.length < 10,
    )
    expect(bare.map(([name]) => name)).toEqual(['$schema'])
  })

  test('every field has a source that it may stand beside', () => {
    const fields = Object.keys((configJsonSchema() as { properties: object }).properties)
    const placed = new Set<string>([...SOURCE_FIELDS, ...Object.values(FIELDS_BY_SOURCE).flat()])
    expect(fields.filter((field) => !placed.has(field))).toEqual(['$schema', 'env'])
  })

  test('the configurations of the examples point to it', () => {
    for (const path of globSync('examples/*/isola.{json,jsonc}', { cwd: ROOT })) {
      const parsed = parseJsonDocument(readFileSync(join(ROOT, path), 'utf8'))
      const { $schema } = ('value' in parsed ? parsed.value : {}) as { $schema?: string }
      expect(resolve(ROOT, dirname(path), $schema ?? ''), path).toBe(SCHEMA)
    }
  })
})
