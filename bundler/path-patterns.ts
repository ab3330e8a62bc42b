/**
 * Globs over paths that are relative and `/`-separated, anchored at the directory: `*` and `?` stay within a segment, `**`
 * does not, `{a,b}` is either. What matches a directory matches all that is in it. Dot files are files like others.
 */
export function compilePatterns(globs: readonly string[]): (path: string) => boolean {
  if (globs.length === 0) return () => false
  const sources = globs.map((glob) => patternSource(glob.replace(/^\.?\//, '').replace(/\/+$/, '')))
  const pattern = new RegExp(`^(?:${sources.join('|')})(?:/.*)?$`, 's')
  return (path) => pattern.test(path)
}

function patternSource(glob: string): string {
  let source = ''
  let depth = 0
  for (let index = 0; index < glob.length; index++) {
    const char = glob.charAt(index)
    if (glob.startsWith('**/', index)) {
      source += '(?:.*/)?'
      index += 2
    } else if (glob.startsWith('**', index)) {
      source += '.*'
      index++
    } else if (char === '*') source += '[^/]*'
    else if (char === '?') source += '[^/]'
    else if (char === '{' && glob.includes('}', index)) {
      source += '(?:'
      depth++
    } else if (char === '}' && depth > 0) {
      source += ')'
      depth--
    } else if (char === ',' && depth > 0) source += '|'
    else source += char.replace(/[.+^${}()|[\]\\]/, '\\$&')
  }
  return source + ')'.repeat(depth)
}
