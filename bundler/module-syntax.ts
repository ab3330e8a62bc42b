import { extname } from 'node:path'
import { build, type Loader, type Message } from 'esbuild'
import { buildFailed, fromEsbuildMessage } from './diagnostic.ts'
import type { FoundModule } from './additional-modules.ts'

/**
 * Parses modules that are sent as they are, so that a syntax error shows here, with its place, and not at the trial
 * start. Returns what each of them exports. Throws `build_failed`.
 */
export async function checkModuleSyntax(
  modules: readonly FoundModule[],
  options: { readonly projectDirectory: string },
): Promise<ReadonlyMap<string, readonly string[]>> {
  const { projectDirectory } = options
  const scripts = modules.filter(({ kind }) => kind === 'esm' || kind === 'cjs')
  const exportsByName = new Map<string, readonly string[]>()
  if (scripts.length === 0) return exportsByName
  const loader: Record<string, Loader> = {}
  for (const { file } of scripts) loader[extname(file)] = 'js'
  try {
    const { metafile } = await build({
      // Numbered, because `a.js` and `a.mjs` would be the same output.
      entryPoints: scripts.map(({ file }, index) => ({ in: file, out: String(index) })),
      absWorkingDir: projectDirectory,
      outdir: projectDirectory,
      allowOverwrite: true,
      bundle: false,
      write: false,
      metafile: true,
      target: 'esnext',
      loader,
      tsconfigRaw: '{}',
      logLevel: 'silent',
      logLimit: 0,
    })
    scripts.forEach(({ name }, index) =>
      exportsByName.set(name, metafile.outputs[`${index}.js`]?.exports ?? []),
    )
    return exportsByName
  } catch (error) {
    const messages = (error as { errors?: readonly Message[] }).errors
    if (messages === undefined || messages.length === 0) throw buildFailed([{ text: String(error) }], error)
    throw buildFailed(
      messages.map((message) => fromEsbuildMessage(message, projectDirectory)),
      error,
    )
  }
}
