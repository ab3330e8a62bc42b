import { realpath } from 'node:fs/promises'
import { build, type BuildFailure } from 'esbuild'
import { buildFailed, fromEsbuildMessage } from './diagnostic.ts'
import type { MadeFile } from './archive.ts'

/** Many packages that were CommonJS call `require` for modules of Node; in an ES module there is none. */
const REQUIRE =
  "import { createRequire as __isolaCreateRequire } from 'node:module'; globalThis.require ??= __isolaCreateRequire(import.meta.url);"

/**
 * A handler in TypeScript, with all that it imports, as one ES module that Node 24 runs. Throws `build_failed` with places
 * and code frames.
 */
export async function bundleTypescriptHandler(options: {
  readonly directory: string
  /** Relative to it; e.g. `src/index.ts`. */
  readonly main: string
}): Promise<MadeFile> {
  const { main } = options
  // esbuild follows symbolic links, and names files relative to the directory.
  const directory = await realpath(options.directory)
  const name = main.replace(/\.\w+$/, '.mjs')
  try {
    const { outputFiles } = await build({
      absWorkingDir: directory,
      entryPoints: [main],
      outfile: name,
      bundle: true,
      write: false,
      platform: 'node',
      target: 'node24',
      format: 'esm',
      sourcemap: 'inline',
      charset: 'utf8',
      keepNames: true,
      banner: { js: REQUIRE },
      logLevel: 'silent',
    })
    return { name, body: outputFiles[0]?.contents ?? new Uint8Array() }
  } catch (error) {
    const { errors } = error as Partial<BuildFailure>
    if (errors === undefined) throw error
    throw buildFailed(
      errors.map((message) => {
        const { notes, ...diagnostic } = fromEsbuildMessage(message, directory)
        // Its advice is about modules of a worker function, which has rules for them.
        const isNative = message.text.includes('".node"')
        const way =
          'native modules cannot be bundled: write the handler in JavaScript, which is sent as it is'
        return isNative ? { ...diagnostic, notes: [way] } : { ...diagnostic, ...(notes && { notes }) }
      }),
      error,
    )
  }
}
