import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { BuildOptions } from '../../bundler/build-options.ts'
import { isIsolaError, type IsolaError } from '../../sdk/model/errors.ts'

/** A directory with these files, gone when the test is over. */
export function temporaryProject(files: Readonly<Record<string, string | Uint8Array>>): string {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'isola-project-')))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  writeFiles(directory, files)
  return directory
}

export function writeFiles(directory: string, files: Readonly<Record<string, string | Uint8Array>>): void {
  for (const [name, body] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, name)), { recursive: true })
    writeFileSync(join(directory, name), body)
  }
}

/** Build options for a directory whose function is `index.ts`. */
export function buildOptions(projectDirectory: string, more: Partial<BuildOptions> = {}): BuildOptions {
  return {
    projectDirectory,
    main: 'index.ts',
    compatibilityDate: '2026-01-01',
    compatibilityFlags: [],
    ...more,
  }
}

/** The error that this must end with. */
export async function failureOf(work: Promise<unknown>): Promise<IsolaError> {
  const outcome = await work.then(
    () => undefined,
    (error: unknown) => error,
  )
  if (isIsolaError(outcome)) return outcome
  throw new Error('expected an IsolaError', { cause: outcome ?? 'it succeeded' })
}
