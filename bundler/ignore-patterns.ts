/**
 * Patterns as `.gitignore` has them, by the rules that wrangler reads `.assetsignore` with: a later line overrules an
 * earlier one, `!` takes back, what is in an ignored directory stays ignored, and case means nothing.
 */
export function compileIgnorePatterns(lines: readonly string[]): IgnorePatterns {
  const rules = lines.flatMap(readRule)
  const isIgnoredItself = (path: string, isDirectory: boolean): boolean => {
    let isIgnored = false
    for (const rule of rules) {
      if (rule.isTakenBack !== isIgnored || (rule.directoriesOnly && !isDirectory)) continue
      if (rule.pattern.test(path)) isIgnored = !rule.isTakenBack
    }
    return isIgnored
  }
  const isInIgnored = (path: string): boolean => {
    for (let slash = path.indexOf('/'); slash !== -1; slash = path.indexOf('/', slash + 1)) {
      if (isIgnoredItself(path.slice(0, slash), true)) return true
    }
    return false
  }
  return {
    isFileIgnored: (path) => isInIgnored(path) || isIgnoredItself(path, false),
    isDirectoryIgnored: (path) => isInIgnored(path) || isIgnoredItself(path, true),
  }
}

/** Of paths that are relative and `/`-separated. */
export interface IgnorePatterns {
  isFileIgnored(path: string): boolean
  isDirectoryIgnored(path: string): boolean
}

interface Rule {
  readonly pattern: RegExp
  readonly isTakenBack: boolean
  readonly directoriesOnly: boolean
}

function readRule(line: string): Rule[] {
  // Spaces at the end mean nothing unless the last is escaped; a backslash at the very end makes no pattern.
  let glob = line.replace(/\r$/, '').replace(/(?<!\\)\s+$/, '')
  if (glob === '' || glob.startsWith('#') || /(?<!\\)(?:\\\\)*\\$/.test(glob)) return []
  const isTakenBack = glob.startsWith('!')
  if (isTakenBack) glob = glob.slice(1)
  const directoriesOnly = glob.endsWith('/')
  if (directoriesOnly) glob = glob.replace(/\/+$/, '')
  if (glob === '') return []
  // A slash at the beginning or inside ties it to the root; without one it is a name at any depth.
  const isAnchored = glob.includes('/')
  const source = globSource(glob.replace(/^\//, ''))
  return [
    { pattern: new RegExp(`${isAnchored ? '^' : '(?:^|/)'}${source}$`, 'isu'), isTakenBack, directoriesOnly },
  ]
}

function globSource(glob: string): string {
  let source = ''
  for (let index = 0; index < glob.length; index++) {
    const char = glob.charAt(index)
    const rest = glob.slice(index)
    const isSegmentStart = index === 0 || glob.charAt(index - 1) === '/'
    if (isSegmentStart && rest.startsWith('**/')) {
      source += '(?:.*/)?'
      index += 2
    } else if (isSegmentStart && rest === '**') {
      source += '.+'
      index++
    } else if (char === '*') {
      source += '[^/]*'
      while (glob.charAt(index + 1) === '*') index++
    } else if (char === '?') source += '[^/]'
    else if (char === '[') {
      const set = classSource(rest)
      source += set?.source ?? '\\['
      index += (set?.length ?? 1) - 1
    } else if (char === '\\') {
      index++
      source += escape(glob.charAt(index))
    } else source += escape(char)
  }
  return source
}

/** A set of characters, `[a-z]` or `[!a-z]`; `undefined` where it does not end or is no set. */
function classSource(rest: string): { readonly source: string; readonly length: number } | undefined {
  const [whole, not, members = ''] = /^\[([!^]?)(\]?[^\]]*)\]/.exec(rest) ?? []
  if (whole === undefined || members === '') return undefined
  const source = `[${not === '' ? '' : '^/'}${members.replaceAll(/[\\\][&|~^]/g, '\\$&')}]`
  try {
    RegExp(source, 'u')
  } catch {
    // A range that runs backwards matches nothing, as in git.
    return { source: '(?!)', length: whole.length }
  }
  return { source, length: whole.length }
}

function escape(char: string): string {
  return char.replace(/[\\^$.*+?()[\]{}|/]/, '\\$&')
}
