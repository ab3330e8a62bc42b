/**
 * How a log line inside workerd says what it is; guest/prelude.js writes these, output.ts reads them. A function can
 * write them too (through `process.stdout`): it then lies about its own lines only. What isola says of an instance
 * never comes this way.
 */
export const LOG_MARKS = {
  /** Before the kind and the request id of a line of the guest. */
  start: '\u0001',
  console: 'c',
  exception: 'x',
  /** Not a line: JSON of what the line behind it was given. */
  values: 'v',
  /** After the id, where the text follows at once; `endJoined` where the formatter put a blank between. */
  end: '\u0002',
  endJoined: '\u0003',
  /** Before what a function writes to `process.stdout` and `process.stderr`; a blank follows. */
  stdout: '\u0004',
  stderr: '\u0005',
} as const
