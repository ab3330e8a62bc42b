/** Requests that two parsers could read differently. `HOST` stands for a host that a function answers on. */
export interface SmugglingCase {
  readonly name: string
  readonly bytes: string
  /** Status of the first answer; 0: the connection ends without one. */
  readonly status: number
  readonly code?: string
}

const GET = 'GET / HTTP/1.1\r\nHost: HOST\r\n'
const POST = 'POST / HTTP/1.1\r\nHost: HOST\r\n'
/** What an attacker would have an instance take for a request. */
const HIDDEN = 'GET /hidden HTTP/1.1\r\nHost: HOST\r\n\r\n'

const bad = (name: string, bytes: string, code = 'bad_request', status = 400): SmugglingCase => ({
  name,
  bytes,
  status,
  code,
})

/** None of these may reach an instance, nor anything that follows them on their connection. */
export const REFUSED: readonly SmugglingCase[] = [
  bad(
    'a length and a transfer coding',
    `${POST}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${HIDDEN}`,
  ),
  bad(
    'a transfer coding and a length',
    `${POST}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n${HIDDEN}`,
  ),
  bad('two different lengths', `${POST}Content-Length: 0\r\nContent-Length: 40\r\n\r\n${HIDDEN}`),
  bad('two equal lengths', `${POST}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc${HIDDEN}`),
  bad('a list of lengths', `${POST}Content-Length: 3, 3\r\n\r\nabc`),
  bad('a negative length', `${POST}Content-Length: -1\r\n\r\n`),
  bad('a length with a sign', `${POST}Content-Length: +3\r\n\r\nabc`),
  bad('a hexadecimal length', `${POST}Content-Length: 0x3\r\n\r\nabc`),
  bad('a length with a blank inside', `${POST}Content-Length: 1 0\r\n\r\nabc`),
  bad('an empty length', `${POST}Content-Length:\r\n\r\nabc`),
  bad('a length beyond all numbers', `${POST}Content-Length: 99999999999999999999\r\n\r\n`),
  bad('a blank before the colon', `${POST}Content-Length : 3\r\n\r\nabc`),
  bad('a tab before the colon', `${POST}Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n`),
  bad(
    'another transfer coding before chunked',
    `${POST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n${HIDDEN}`,
  ),
  bad('chunked twice', `${POST}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n`),
  bad(
    'chunked in two headers',
    `${POST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  ),
  bad(
    'chunked and identity',
    `${POST}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n`,
  ),
  bad('a transfer coding that is not chunked', `${POST}Transfer-Encoding: identity\r\n\r\n${HIDDEN}`),
  bad('a transfer coding that looks like chunked', `${POST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`),
  bad('a quoted transfer coding', `${POST}Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n`),
  bad('a transfer coding with a parameter', `${POST}Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n`),
  bad('an empty transfer coding', `${POST}Transfer-Encoding:\r\n\r\n0\r\n\r\n`),
  bad('a control character in the transfer coding', `${POST}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n`),
  bad(
    'a transfer coding in HTTP/1.0',
    `POST / HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  ),
  bad('bare line feeds', 'GET / HTTP/1.1\nHost: HOST\n\n'),
  bad('one bare line feed between headers', `GET / HTTP/1.1\r\nHost: HOST\nX: y\r\n\r\n`),
  bad('a bare carriage return in a value', `${GET}X: a\rTransfer-Encoding: chunked\r\n\r\n`),
  bad('a folded header', `${GET}X: a\r\n b\r\n\r\n`),
  bad('a folded transfer coding', `${POST}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n`),
  bad('a first header that is folded', `GET / HTTP/1.1\r\n X: y\r\nHost: HOST\r\n\r\n`),
  bad('a header without a colon', `${GET}nonsense\r\n\r\n`),
  bad('a header without a name', `${GET}: value\r\n\r\n`),
  bad('a blank in a header name', `${GET}X Y: z\r\n\r\n`),
  bad('a NUL in a value', `${GET}X: a\0b\r\n\r\n`),
  bad('a NUL in a name', `${GET}X\0Y: z\r\n\r\n`),
  bad('two Host headers', `${GET}Host: HOST\r\n\r\n${HIDDEN}`),
  bad('two different Host headers', `${GET}Host: other.example\r\n\r\n${HIDDEN}`),
  bad('no Host header', `GET / HTTP/1.1\r\nAccept: */*\r\n\r\n`),
  bad('an empty Host header', `GET / HTTP/1.1\r\nHost:\r\n\r\n`),
  bad('user information in Host', `GET / HTTP/1.1\r\nHost: admin@HOST\r\n\r\n`),
  bad('a path in Host', `GET / HTTP/1.1\r\nHost: HOST/x\r\n\r\n`),
  bad('a list of hosts', `GET / HTTP/1.1\r\nHost: HOST, other.example\r\n\r\n`),
  bad('a blank in Host', `GET / HTTP/1.1\r\nHost: HOST other\r\n\r\n`),
  bad('a port that is no number', `GET / HTTP/1.1\r\nHost: hello.localhost:8o\r\n\r\n`),
  bad('a port with too many digits', `GET / HTTP/1.1\r\nHost: hello.localhost:808080\r\n\r\n`),
  bad('an absolute target of another host', `GET http://other.example/ HTTP/1.1\r\nHost: HOST\r\n\r\n`),
  bad('an absolute target with user information', `GET http://a@HOST/ HTTP/1.1\r\nHost: HOST\r\n\r\n`),
  bad('an absolute target of another scheme', `GET ftp://HOST/ HTTP/1.1\r\nHost: HOST\r\n\r\n`),
  bad('an absolute target without a host', `GET http:///x HTTP/1.1\r\nHost: HOST\r\n\r\n`),
  bad('a target that is no path', `GET hidden HTTP/1.1\r\nHost: HOST\r\n\r\n`),
  bad('the server itself as target', `OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n`),
  bad('a fragment in the target', `GET /#x HTTP/1.1\r\nHost: HOST\r\n\r\n`),
  bad('a control character in the target', `GET /\x01 HTTP/1.1\r\nHost: HOST\r\n\r\n`),
  bad('a tab in the target', `GET /a\tb HTTP/1.1\r\nHost: HOST\r\n\r\n`),
  bad('a character that is not ASCII in the target', `GET /\xe9 HTTP/1.1\r\nHost: HOST\r\n\r\n`),
  bad('a blank in the target', `GET /a b HTTP/1.1\r\nHost: HOST\r\n\r\n`),
  bad('HTTP/0.9', 'GET /\r\n\r\n'),
  bad('HTTP/0.9 with a version', 'GET / HTTP/0.9\r\nHost: HOST\r\n\r\n'),
  bad('HTTP/1.2', 'GET / HTTP/1.2\r\nHost: HOST\r\n\r\n'),
  bad('HTTP/2.0', 'GET / HTTP/2.0\r\nHost: HOST\r\n\r\n'),
  bad('the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  bad('a version in lower case', 'GET / http/1.1\r\nHost: HOST\r\n\r\n'),
  bad('an unknown method', `SMUGGLE / HTTP/1.1\r\nHost: HOST\r\n\r\n`),
  bad('a method in lower case', `get / HTTP/1.1\r\nHost: HOST\r\n\r\n`),
  bad('a TLS handshake', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'),
  bad('CONNECT', `CONNECT HOST HTTP/1.1\r\nHost: HOST\r\n\r\n${HIDDEN}`, 'method_not_allowed', 405),
  bad('TRACE', `TRACE / HTTP/1.1\r\nHost: HOST\r\n\r\n`, 'method_not_allowed', 405),
  bad(
    'an expectation that is not met',
    `${POST}Expect: 200-ok\r\nContent-Length: 3\r\n\r\nabc`,
    'expectation_failed',
    417,
  ),
  bad(
    'an expectation beside 100-continue',
    `${POST}Expect: 100-continue, x\r\nContent-Length: 3\r\n\r\nabc`,
    'expectation_failed',
    417,
  ),
  bad(
    'a WebSocket handshake by POST',
    `${POST}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 0\r\n\r\n`,
    'upgrade_refused',
  ),
  bad(
    'a WebSocket handshake without a key',
    `${GET}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
    'upgrade_refused',
  ),
  bad(
    'a WebSocket handshake with a body',
    `${GET}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: ${HIDDEN.length}\r\n\r\n${HIDDEN}`,
    'upgrade_refused',
  ),
]

/** Bodies that turn out malformed when the request is already on its way: it must never look whole to the instance. */
export const BROKEN_BODIES: readonly SmugglingCase[] = [
  bad('a chunk size that is no number', `${POST}Transfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n`),
  bad('a chunk size with a sign', `${POST}Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n`),
  bad('a chunk size with a prefix', `${POST}Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n`),
  bad('a chunk size with a blank before', `${POST}Transfer-Encoding: chunked\r\n\r\n 3\r\nabc\r\n0\r\n\r\n`),
  bad(
    'a chunk size beyond all numbers',
    `${POST}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n`,
  ),
  bad('a chunk longer than its size', `${POST}Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n`),
  bad('a chunk shorter than its size', `${POST}Transfer-Encoding: chunked\r\n\r\n5\r\nabc\r\n0\r\n\r\n`),
  bad('a chunk size ended by a line feed', `${POST}Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n`),
  bad('a chunk ended by a line feed', `${POST}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n`),
  bad(
    'a control character in a chunk extension',
    `${POST}Transfer-Encoding: chunked\r\n\r\n3;a=\x01\r\nabc\r\n0\r\n\r\n`,
  ),
  bad(
    'a line feed in a chunk extension',
    `${POST}Transfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n`,
  ),
]
