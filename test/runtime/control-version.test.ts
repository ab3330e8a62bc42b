import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { checkVersion } from '../../runtime/control/check-version.ts'
import type { WorkerVersionRequest } from '../../sdk/model/control.ts'
import type { WorkerContent } from '../../sdk/model/function.ts'
import type { Module, ModuleRef } from '../../sdk/model/bundle.ts'
import type { Binding } from '../../sdk/model/function.ts'
import { BUNDLE_LIMITS, INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import { refused } from '../harness/control-place.ts'

const module = (name: string, kind: Module['kind'] = 'esm', sizeBytes = 1): ModuleRef => ({
  name,
  kind,
  sha256: 'a'.repeat(64),
  sizeBytes,
})
const REQUEST: WorkerVersionRequest = {
  kind: 'worker',
  mainModule: 'index.js',
  modules: [module('index.js')],
  bindings: [],
  compatibilityDate: '2026-11-01',
  compatibilityFlags: [],
}
const check = (change: Partial<WorkerVersionRequest>) =>
  checkVersion({ ...REQUEST, ...change }) as WorkerContent
const withModule = (name: string) => check({ modules: [module('index.js'), module(name, 'text')] })

describe('modules of a version', () => {
  test.each([
    'lib/greet.js',
    'a b.txt',
    'ünïcode.txt',
    '.hidden',
    '...',
    'a..b',
    '@scope/x.wasm',
    'deep/'.repeat(50) + 'x',
  ])('the name %j is taken', (name) => {
    expect(withModule(name).modules.map((module) => module.name)).toContain(name)
  })

  test.each([
    ['', /is empty/],
    ['/etc/passwd', /is absolute/],
    ['../up.js', /has the segment "\.\."/],
    ['a/../b.js', /has the segment "\.\."/],
    ['./a.js', /has the segment "\."/],
    ['a//b.js', /has the segment ""/],
    ['a/', /has the segment ""/],
    ['a\\b.js', /backslash/],
    ['a\0b', /control character/],
    ['a\nb', /control character/],
    ['node:fs', /like a URL/],
    ['cloudflare:workers', /like a URL/],
    ['HTTPS://x/y', /like a URL/],
    ['\ud800', /Unicode/],
    ['n'.repeat(BUNDLE_LIMITS.moduleNameBytesMax + 1), /more than 512 bytes/],
    ['ü'.repeat(BUNDLE_LIMITS.moduleNameBytesMax / 2 + 1), /more than 512 bytes/],
  ])('the name %j is refused', (name, message) => {
    expect(() => withModule(name)).toThrow(refused('invalid_argument', message))
  })

  test('no name that is taken leaves the folder it is put in', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('a', '.', '/', '\\', ':', ' ') }), (name) => {
        let taken: boolean
        try {
          withModule(`${name}x`)
          taken = true
        } catch {
          taken = false
        }
        const path = new URL(`http://host/root/${name}x`).pathname
        if (taken) expect(decodeURIComponent(path)).toBe(`/root/${name}x`)
      }),
    )
  })

  test('a name that is there twice is refused', () => {
    expect(() => withModule('index.js')).toThrow(refused('invalid_argument', /"index\.js" is there twice/))
  })

  test('the main module must be there and be a module', () => {
    expect(() => check({ mainModule: 'main.js' })).toThrow(
      refused('invalid_argument', /not among the 1 modules/),
    )
    expect(() => check({ modules: [] })).toThrow(refused('invalid_argument', /not among the 0 modules/))
    expect(() => check({ modules: [module('index.js', 'cjs')] })).toThrow(
      refused('invalid_argument', /of kind "cjs": it must be an "esm" module/),
    )
  })

  test('more bytes or modules than a version may have are refused, as many as it may are not', () => {
    const half = BUNDLE_LIMITS.modulesBytesMax / 2
    const modules = [module('index.js', 'esm', half), module('a.bin', 'data', half)]
    expect(check({ modules }).modules).toHaveLength(2)
    expect(() => check({ modules: [...modules, module('b.bin', 'data', 1)] })).toThrow(
      refused('bundle_too_large', /67108865 bytes of modules, more than the 67108864/),
    )
    const many = Array.from({ length: BUNDLE_LIMITS.modulesCountMax }, (_, index) => module(`m${index}.js`))
    expect(() => check({ modules: [module('index.js'), ...many] })).toThrow(
      refused('bundle_too_large', /10001 modules/),
    )
  })
})

describe('bindings of a version', () => {
  const text = (name: string, value = ''): Binding => ({ type: 'text', name, text: value })

  test.each(['API_URL', '$x', '_', 'a.b-c'])('the name %j is taken', (name) => {
    expect(check({ bindings: [text(name)] }).bindings).toEqual([text(name)])
  })

  test.each([
    '',
    '1a',
    'a b',
    'ä',
    'a'.repeat(129),
    '__proto__',
    'constructor',
    'prototype',
    '__isola_x',
    '__ISOLA',
  ])('the name %j is refused', (name) => {
    expect(() => check({ bindings: [text(name)] })).toThrow(refused('invalid_argument', /binding name/))
  })

  test('a name that is there twice, a value too long, or too many are refused', () => {
    expect(() => check({ bindings: [text('A'), { type: 'json', name: 'A', json: 1 }] })).toThrow(
      refused('invalid_argument', /"A" is there twice/),
    )
    const longest = 'x'.repeat(BUNDLE_LIMITS.varBytesMax)
    expect(check({ bindings: [text('A', longest)] }).bindings).toHaveLength(1)
    expect(() => check({ bindings: [text('A', `${longest}x`)] })).toThrow(
      refused('invalid_argument', /131073 bytes/),
    )
    expect(() => check({ bindings: [{ type: 'json', name: 'A', json: longest }] })).toThrow(
      refused('invalid_argument', /131074 bytes/),
    )
    const many = Array.from({ length: BUNDLE_LIMITS.bindingsCountMax + 1 }, (_, index) => text(`V${index}`))
    expect(() => check({ bindings: many })).toThrow(refused('invalid_argument', /257 bindings/))
  })
})

describe('compatibility and limits of a version', () => {
  test.each(['2026-02-29', '2026-13-01', '2026-1-1', '20261101', '', 'yesterday', '2026-11-01T00:00'])(
    'the date %j is refused',
    (compatibilityDate) => {
      expect(() => check({ compatibilityDate })).toThrow(refused('invalid_argument', /is no date/))
    },
  )

  test('flags are a set of plain words', () => {
    expect(check({ compatibilityFlags: ['nodejs_compat', 'a', 'a'] }).compatibilityFlags).toEqual([
      'a',
      'nodejs_compat',
    ])
    for (const flag of ['', 'NodeJS', 'a b', '--unsafe']) {
      expect(() => check({ compatibilityFlags: [flag] })).toThrow(refused('invalid_argument', /flag/))
    }
  })

  test('limits are what was asked for, within bounds', () => {
    const { cpuMsMax, memoryMibMin, memoryMibMax } = INSTANCE_LIMITS
    expect(check({}).limits).toEqual({})
    expect(check({ limits: { memoryMib: memoryMibMax } }).limits).toEqual({ memoryMib: memoryMibMax })
    expect(check({ limits: { cpuMs: 1, memoryMib: memoryMibMin } }).limits).toEqual({
      cpuMs: 1,
      memoryMib: memoryMibMin,
    })
    for (const limits of [
      { cpuMs: 0 },
      { cpuMs: cpuMsMax + 1 },
      { cpuMs: 1.5 },
      { memoryMib: memoryMibMin - 1 },
      { memoryMib: memoryMibMax + 1 },
    ]) {
      expect(() => check({ limits })).toThrow(refused('invalid_argument', /give a whole number from/))
    }
  })
})
