import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ProcessLink } from '../../runtime/node/process-link.ts'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'isola-link-'))
})
afterEach(() => rmSync(directory, { recursive: true }))

function linkToNothing(): { link: ProcessLink<{ type: string }, { type: string }>; logFile: string } {
  const logFile = join(directory, 'process.log')
  const link = new ProcessLink<{ type: string }, { type: string }>({
    name: 'nothing',
    socketPath: join(directory, 'process.sock'),
    entry: './no-such-entry',
    argv: () => [],
    logFile,
    onConnect: () => undefined,
    onMessage: () => undefined,
    onEvent: () => undefined,
  })
  return { link, logFile }
}

test('a process that ends at once is reported with what it said', async () => {
  const { link } = linkToNothing()
  const error = await link.start().catch((error: unknown) => error)
  expect(error).toMatchObject({ code: 'internal' })
  expect((error as Error).message).toMatch(/^nothing ended at start with exit code \d+: .*Node\.js v/s)
})

test('a process whose log was removed before it ended is reported all the same', async () => {
  const { link, logFile } = linkToNothing()
  const starting = link.start()
  const reported = expect(starting).rejects.toMatchObject({
    code: 'internal',
    message: expect.stringContaining('no such file'),
  })
  while (!existsSync(logFile)) await new Promise((resolve) => setImmediate(resolve))
  rmSync(logFile)
  await reported
})
