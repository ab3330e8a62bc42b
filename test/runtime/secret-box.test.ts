import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openSecretBox } from '../../runtime/registry/secret-box.ts'

let directory: string
let path: string
const SECRET = { functionName: 'shop', name: 'KEY', text: 'a secret with ünicode' }

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'isola-box-'))
  path = join(directory, 'fleet.key')
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

test('what is closed opens again with the same key, also by another process', () => {
  const sealed = openSecretBox(path).seal(SECRET)
  expect(sealed).not.toContain('secret')
  expect(openSecretBox(path).open({ ...SECRET, sealed })).toBe(SECRET.text)
  for (const text of ['', 'x'.repeat(131_072)]) {
    const box = openSecretBox(path)
    expect(box.open({ ...SECRET, sealed: box.seal({ ...SECRET, text }) })).toBe(text)
  }
})

test('one secret of one function is always closed to the same bytes, and to others for any other', () => {
  const box = openSecretBox(path)
  const all = [
    SECRET,
    { ...SECRET, text: 'b' },
    { ...SECRET, name: 'KEX' },
    { ...SECRET, functionName: 'shoq' },
  ]
  expect(box.seal(SECRET)).toBe(openSecretBox(path).seal(SECRET))
  expect(new Set(all.map((secret) => box.seal(secret))).size).toBe(all.length)
  // Where one name ends and the next begins is part of it.
  expect(box.seal({ functionName: 'ab', name: 'c', text: '' })).not.toBe(
    box.seal({ functionName: 'a', name: 'bc', text: '' }),
  )
})

test('it opens for no other function or name, with no other key, and not when a byte was changed', () => {
  const box = openSecretBox(path)
  const sealed = box.seal(SECRET)
  const other = openSecretBox(join(directory, 'other.key'))
  const changed = sealed.slice(0, 20) + (sealed[20] === 'A' ? 'B' : 'A') + sealed.slice(21)
  for (const attempt of [
    () => box.open({ functionName: 'cart', name: 'KEY', sealed }),
    () => box.open({ functionName: 'shop', name: 'KEZ', sealed }),
    () => other.open({ ...SECRET, sealed }),
    () => box.open({ ...SECRET, sealed: changed }),
    () => box.open({ ...SECRET, sealed: sealed.slice(3) }),
    () => box.open({ ...SECRET, sealed: 'v1.' }),
    () => box.open({ ...SECRET, sealed: sealed.slice(0, 25) }),
  ]) {
    expect(attempt).toThrow(
      expect.objectContaining({
        code: 'data_unusable',
        message: expect.stringContaining('set the secret again'),
      }),
    )
    expect(attempt).not.toThrow(SECRET.text)
  }
})

test('the key is made once, for its owner only, whole, and never over another', () => {
  openSecretBox(path)
  const key = readFileSync(path, 'utf8')
  expect(key).toMatch(/^[0-9a-f]{64}\n$/)
  expect(statSync(path).mode & 0o777).toBe(0o600)
  openSecretBox(path)
  expect(readFileSync(path, 'utf8')).toBe(key)
  expect(readdirSync(directory)).toEqual(['fleet.key'])
})

test('a file that is no key is refused by name, and left as it is', () => {
  writeFileSync(path, 'not a key')
  chmodSync(path, 0o600)
  expect(() => openSecretBox(path)).toThrow(
    expect.objectContaining({ code: 'data_unusable', message: expect.stringContaining(path) }),
  )
  expect(readFileSync(path, 'utf8')).toBe('not a key')
})
