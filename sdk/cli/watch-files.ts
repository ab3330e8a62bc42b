import { type FSWatcher, statSync, watch } from 'node:fs'
import { basename, dirname } from 'node:path'

/** Editors write in several steps: changes this close together are one. */
const DEBOUNCE_MS = 60
/** File times come from a clock that moves in steps of up to 10 ms and may lag by one. */
const CLOCK_STEP_MS = 10

export interface FileWatch {
  /**
   * Replaces the files that are watched. They were read from `readFromMs` on: one that is younger has changed
   * meanwhile, and counts as a change now.
   */
  setFiles(paths: readonly string[], readFromMs: number): void
  /** After a failed build any file beside the watched ones may be the missing one. */
  watchWholeDirectories(): void
  close(): void
}

/**
 * Calls back, debounced, when one of the files changes. Directories are watched and not the files, because many
 * editors save by renaming a new file over the old one, which ends a watch of the file.
 */
export function watchFiles(onChange: () => void): FileWatch {
  let namesByDirectory = new Map<string, Set<string>>()
  let wholeDirectories = false
  const watcherByDirectory = new Map<string, FSWatcher>()
  let timer: NodeJS.Timeout | undefined
  const changed = (): void => {
    clearTimeout(timer)
    timer = setTimeout(onChange, DEBOUNCE_MS)
  }
  const start = (directory: string): void => {
    const watcher = watch(directory, (_event, name) => {
      if (wholeDirectories || name === null || namesByDirectory.get(directory)?.has(name) === true) changed()
    })
    // The directory is gone: that is a change, and the next build says what is missing.
    watcher.on('error', () => {
      watcherByDirectory.delete(directory)
      watcher.close()
      changed()
    })
    watcherByDirectory.set(directory, watcher)
  }
  return {
    setFiles(paths, readFromMs) {
      wholeDirectories = false
      namesByDirectory = new Map()
      for (const path of paths) {
        if (path.includes('/node_modules/')) continue
        const names = namesByDirectory.get(dirname(path)) ?? new Set()
        namesByDirectory.set(dirname(path), names.add(basename(path)))
      }
      for (const [directory, watcher] of watcherByDirectory) {
        if (namesByDirectory.has(directory)) continue
        watcher.close()
        watcherByDirectory.delete(directory)
      }
      for (const directory of namesByDirectory.keys())
        if (!watcherByDirectory.has(directory)) start(directory)
      if (paths.some((path) => modifiedAtMs(path) > readFromMs - CLOCK_STEP_MS)) changed()
    },
    watchWholeDirectories() {
      wholeDirectories = true
    },
    close() {
      clearTimeout(timer)
      for (const watcher of watcherByDirectory.values()) watcher.close()
    },
  }
}

function modifiedAtMs(path: string): number {
  // A file that is gone has changed.
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Infinity
}
