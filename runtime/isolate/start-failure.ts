/** Follows from the error before it: without a worker there is no control entrypoint. */
const CONSEQUENCE = /^Socket "\w+" refers to service "function"/

const REWORDED: readonly (readonly [RegExp, string])[] = [
  [
    /^This Worker requires compatibility date "(.+?)", but the newest date supported by this server binary is "(.+?)"\.?/,
    'compatibility date $1 is newer than this node knows ($2): set an earlier compatibility_date',
  ],
  [
    /^Can't set compatibility date in the future: "(.+?)"\. Today's date \(UTC\) is "(.+?)"\.?/,
    'compatibility date $1 is in the future (today is $2, UTC): set an earlier compatibility_date',
  ],
  [
    /^The compatibility flag (\S+) is experimental .*/,
    'compatibility flag $1 is experimental, which this node does not allow: remove it from compatibility_flags',
  ],
  [/^No such compatibility flag: (.*)/, 'no such compatibility flag: $1: remove it from compatibility_flags'],
  [
    /^.*JavaScript heap out of memory.*$/,
    'out of memory while it was loaded: load less, or raise its memory limit',
  ],
]

/**
 * Why a version did not start, for the person who wrote it, from what workerd said (`OutputParser.lastErrors`): its
 * message with module, line and column, without the names that only isola knows.
 */
export function describeStartFailure(errors: string): string {
  const lines = errors
    .replaceAll(/^service function: /gm, '')
    .replaceAll(/^Uncaught /gm, '')
    .split('\n')
    .filter((line) => !CONSEQUENCE.test(line) && !/^\s+at __isola_/.test(line))
  for (const [pattern, words] of REWORDED) {
    const line = lines.find((candidate) => pattern.test(candidate))
    if (line !== undefined) return line.replace(pattern, words)
  }
  return lines.join('\n').trim() || 'workerd ended without a message'
}
