import { lstatSync, mkdtempSync, mkdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openDataDirectory } from '../../runtime/node/data-directory.ts'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'isola-data-'))
})
afterEach(() => rmSync(directory, { recursive: true }))

function runPathOf(dataDirectory: string): string {
  const data = openDataDirectory(dataDirectory)
  data.removeRunPath()
  return data.runPath
}

test('a data directory keeps its token and its run directory, and only the owner reads the token', () => {
  const path = join(directory, 'a/b')
  const first = openDataDirectory(path)
  const second = openDataDirectory(path)
  expect(second).toMatchObject({ token: first.token, runPath: first.runPath, name: first.name })
  expect(first.token.length).toBeGreaterThan(32)
  expect(statSync(join(path, 'token')).mode & 0o777).toBe(0o600)
  expect(statSync(path).mode & 0o777).toBe(0o700)
  first.removeRunPath()
  expect(lstatSync(first.runPath, { throwIfNoEntry: false })).toBeUndefined()
})

test('a link in the place of the run directory is refused, and nothing is done to where it leads', () => {
  const runPath = runPathOf(directory)
  const elsewhere = join(directory, 'elsewhere')
  mkdirSync(elsewhere, { mode: 0o700 })
  symlinkSync(elsewhere, runPath)
  try {
    expect(() => openDataDirectory(directory)).toThrow(
      expect.objectContaining({ code: 'data_unusable', message: expect.stringContaining('not a directory') }),
    )
    expect(statSync(elsewhere).mode & 0o777).toBe(0o700)
  } finally {
    rmSync(runPath)
  }
})

test('a token that is no token is refused by the name of its file', () => {
  writeFileSync(join(directory, 'token'), 'short\n')
  expect(() => openDataDirectory(directory)).toThrow(
    expect.objectContaining({ code: 'data_unusable', message: expect.stringContaining('token') }),
  )
  rmSync(join(directory, 'token'))
  openDataDirectory(directory).removeRunPath()
})
