import { closeSync, mkdtempSync, rmSync, statSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import { followLogFile, type LogFile } from '../../runtime/isolate/log-file.ts'

let directory: string
let path: string
let text: string
let dropped: number
let onText: () => void
const opened: LogFile[] = []
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'iso-log-'))
  path = join(directory, 'out.log')
  text = ''
  dropped = 0
  onText = () => undefined
})
afterEach(() => {
  for (const file of opened.splice(0)) file.close()
  rmSync(directory, { recursive: true })
})

function follow(): LogFile {
  const file = followLogFile({
    path,
    onChunk(chunk) {
      text += Buffer.from(chunk).toString()
      onText()
    },
    onDropped: (bytes) => {
      dropped += bytes
      onText()
    },
  })
  opened.push(file)
  return file
}

const until = (isSo: () => boolean): Promise<void> =>
  new Promise((resolve) => {
    onText = () => {
      if (isSo()) resolve()
    }
    onText()
  })

function writer(file: LogFile): { write(value: string): void } {
  const descriptor = file.openForAppending()
  opened.push({ ...file, close: () => closeSync(descriptor) })
  return { write: (value) => void writeSync(descriptor, value) }
}

describe('following', () => {
  test('what is written arrives in order, without being asked for', async () => {
    const file = follow()
    const { write } = writer(file)
    write('one\n')
    await until(() => text === 'one\n')
    write('two\n')
    write('three\n')
    await until(() => text === 'one\ntwo\nthree\n')
  })

  test('the next reader begins where the last one ended', async () => {
    const first = follow()
    const { write } = writer(first)
    write('old\n')
    first.drain()
    first.close()
    write('new\n')
    text = ''
    follow()
    await until(() => text !== '')
    expect(text).toBe('new\n')
  })

  test('drain reads at once', () => {
    const file = follow()
    writer(file).write('now\n')
    file.drain()
    expect(text).toBe('now\n')
  })

  test('nothing is delivered after close', () => {
    const file = follow()
    const { write } = writer(file)
    file.close()
    write('late\n')
    file.close()
    expect(text).toBe('')
  })
})

describe('bounds', () => {
  const MIB = 1024 * 1024
  const block = `${'x'.repeat(MIB - 1)}\n`

  test('a file that was read is emptied, and the writer goes on at its beginning', () => {
    const file = follow()
    const { write } = writer(file)
    for (let n = 0; n < 3; n++) write(block)
    file.drain()
    expect(text).toHaveLength(3 * MIB)
    expect(statSync(path).size).toBe(0)
    write('after\n')
    file.drain()
    expect(text.slice(3 * MIB)).toBe('after\n')
    expect(statSync(path).size).toBe(6)
    expect(dropped).toBe(0)
  })

  test('a flood is cut at the bound of the file, and what was dropped is counted', async () => {
    const file = follow()
    const { write } = writer(file)
    const blocks = INSTANCE_LIMITS.logFileBytesMax / MIB
    for (let n = 0; n < blocks; n++) write(block)
    await until(() => dropped > 0)
    expect(text.length).toBeLessThanOrEqual(2 * INSTANCE_LIMITS.logReadBytesMax)
    expect(text.length + dropped).toBe(INSTANCE_LIMITS.logFileBytesMax)
    expect(statSync(path).size).toBe(0)
    const before = text.length
    write('still here\n')
    await until(() => text.length > before)
    expect(text.slice(before)).toBe('still here\n')
  })

  test('a file that filled while nobody read is read whole by the next drain', () => {
    const file = follow()
    const { write } = writer(file)
    for (let n = 0; n < INSTANCE_LIMITS.logFileBytesMax / MIB; n++) write(block)
    file.drain()
    expect(text).toHaveLength(INSTANCE_LIMITS.logFileBytesMax)
    expect(dropped).toBe(0)
    expect(statSync(path).size).toBe(0)
  })
})
