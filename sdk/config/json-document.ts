import {
  createScanner,
  findNodeAtLocation,
  parseTree,
  printParseErrorCode,
  type Node,
  type ParseError,
} from 'jsonc-parser'
import { BUILD_LIMITS } from '../model/limits.ts'
import type { ParsedText, Position, SyntaxProblem } from './document.ts'

const OPEN_BRACE = 1
const CLOSE_BRACE = 2
const OPEN_BRACKET = 3
const CLOSE_BRACKET = 4
const END_OF_FILE = 17

const REASONS: Readonly<Record<string, string>> = {
  InvalidSymbol: 'this is no JSON value: strings need double quotes',
  InvalidNumberFormat: 'this is no JSON number',
  PropertyNameExpected: 'a field name in double quotes is expected here',
  ValueExpected: 'a value is expected here',
  ColonExpected: 'a colon is expected here',
  CommaExpected: 'a comma is expected here',
  CloseBraceExpected: 'a closing brace } is expected here',
  CloseBracketExpected: 'a closing bracket ] is expected here',
  EndOfFileExpected: 'the file should end here: remove what follows the closing brace',
  UnexpectedEndOfComment: 'this comment is not closed: add */',
  UnexpectedEndOfString: 'this string is not closed: add the double quote',
  UnexpectedEndOfNumber: 'this number is not complete',
  InvalidUnicode: 'this unicode escape is not valid: write \\u and four hex digits',
  InvalidEscapeCharacter: 'this escape is not valid: write \\\\ for a backslash',
  InvalidCharacter: 'this character is not allowed in a string: write it as an escape',
}

/** JSON with comments and trailing commas, as wrangler reads both `.json` and `.jsonc`. */
export function parseJsonDocument(text: string): ParsedText | SyntaxProblem {
  const tooDeep = findTooDeep(text)
  if (tooDeep !== undefined) return tooDeep
  const errors: ParseError[] = []
  const root = parseTree(text, errors, { allowTrailingComma: true })
  const first = errors[0]
  if (first !== undefined || root === undefined) {
    const reason = first === undefined ? undefined : REASONS[printParseErrorCode(first.error)]
    return { ...positionAt(text, first?.offset ?? 0), message: reason ?? 'this is not JSON' }
  }
  const duplicate = findDuplicate(root)
  if (duplicate !== undefined) {
    return {
      ...positionAt(text, duplicate.offset),
      message: `the field ${JSON.stringify(duplicate.value)} is here twice: keep one`,
    }
  }
  return {
    value: valueOf(root),
    locate(path) {
      for (let length = path.length; length > 0; length--) {
        const node = findNodeAtLocation(root, path.slice(0, length))
        // A field's place is its name's.
        if (node !== undefined)
          return positionAt(text, (node.parent?.type === 'property' ? node.parent : node).offset)
      }
      return undefined
    },
  }
}

/** The parser is recursive, so this has to be known before it runs. */
function findTooDeep(text: string): SyntaxProblem | undefined {
  const scanner = createScanner(text, true)
  let depth = 0
  for (let token: number = scanner.scan(); token !== END_OF_FILE; token = scanner.scan()) {
    if (token === OPEN_BRACE || token === OPEN_BRACKET) depth++
    if (token === CLOSE_BRACE || token === CLOSE_BRACKET) depth--
    if (depth > BUILD_LIMITS.configDepthMax) {
      const message = `nested deeper than ${BUILD_LIMITS.configDepthMax} levels: write it flatter`
      return { ...positionAt(text, scanner.getTokenOffset()), message }
    }
  }
  return undefined
}

/** JSON parsers keep the last of two equal names; the first would be lost without a word. */
function findDuplicate(node: Node): Node | undefined {
  const names = new Set<unknown>()
  for (const child of node.children ?? []) {
    const name = node.type === 'object' ? child.children?.[0] : undefined
    if (name !== undefined && names.has(name.value)) return name
    names.add(name?.value)
    const inner = findDuplicate(node.type === 'object' ? (child.children?.[1] ?? child) : child)
    if (inner !== undefined) return inner
  }
  return undefined
}

function valueOf(node: Node): unknown {
  if (node.type === 'array') return (node.children ?? []).map(valueOf)
  if (node.type !== 'object') return node.value
  // fromEntries defines the field "__proto__" instead of setting the prototype, so it can be seen and refused.
  return Object.fromEntries(
    (node.children ?? []).map(({ children }) => [
      String(children?.[0]?.value),
      children?.[1] && valueOf(children[1]),
    ]),
  )
}

function positionAt(text: string, offset: number): Position {
  const before = text.slice(0, offset)
  const lineStart = Math.max(before.lastIndexOf('\n'), before.lastIndexOf('\r')) + 1
  return { line: before.split(/\r\n|\n|\r/).length, column: offset - lineStart + 1 }
}
