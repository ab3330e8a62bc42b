import { describe, expect, test } from 'vitest'
import { ASSET_LIMITS } from '../../sdk/model/limits.ts'
import type { AssetsConfig } from '../../sdk/model/function.ts'
import { compilePattern } from '../../router/assets/rules/path-pattern.ts'
import { compileHeaderRules } from '../../router/assets/rules/header-rules.ts'
import { compileRedirects } from '../../router/assets/rules/redirect-rules.ts'
import { portionOf } from '../../router/assets/rules/conditions.ts'
import { readRequestPath } from '../../router/assets/rules/request-path.ts'
import { compileSite, type Site } from '../../router/assets/rules/site.ts'
import { makeSite, sha256Of, type SiteFiles } from '../harness/asset-place.ts'

/** Files whose content is their own path. */
function site(paths: readonly string[], config: AssetsConfig = {}, more: Partial<SiteFiles> = {}): Site {
  return compileSite(
    makeSite({ files: Object.fromEntries(paths.map((path) => [path, path])), config, ...more }),
  )
}

/** In short: `/file`, `404 /file`, `307 /place`, `code`, `not-found`, `wrong-method`. */
function ask(
  of: Site,
  target: string,
  options: { readonly method?: string; readonly isNavigation?: boolean; readonly filesOnly?: boolean } = {},
): string {
  const answer = of.answer({ method: 'GET', isNavigation: false, filesOnly: false, ...options, target })
  if (answer.type === 'redirect') return `${answer.status} ${answer.location}`
  if (answer.type !== 'file') return answer.type
  const path = PATHS.get(answer.file.sha256) ?? answer.file.sha256
  return answer.status === 200 ? path : `${answer.status} ${path}`
}

const ALL = [
  '/index.html',
  '/file.html',
  '/folder/index.html',
  '/both.html',
  '/both/index.html',
  '/bin',
  '/404.html',
]
const DEEP = ['/folder/404.html', '/a b.txt', '/ä.txt', '/a@b.js']
const PATHS = new Map([...ALL, ...DEEP].map((path) => [sha256Of(path), path]))

describe('html handling', () => {
  const EXPECTED: Record<string, Record<string, string>> = {
    'auto-trailing-slash': {
      '/': '/index.html',
      '/index': '307 /',
      '/index.html': '307 /',
      '/file': '/file.html',
      '/file.html': '307 /file',
      '/file/': '307 /file',
      '/file/index': '307 /file',
      '/file/index.html': '307 /file',
      '/folder': '307 /folder/',
      '/folder/': '/folder/index.html',
      '/folder/index': '307 /folder/',
      '/folder/index.html': '307 /folder/',
      '/folder.html': '307 /folder/',
      '/both': '/both.html',
      '/both/': '/both/index.html',
      '/both.html': '307 /both',
      '/both/index.html': '307 /both/',
      '/bin': '/bin',
      '/bin/': 'not-found',
      '/none': 'not-found',
    },
    'force-trailing-slash': {
      '/': '/index.html',
      '/index.html': '307 /',
      '/file': '307 /file/',
      '/file/': '/file.html',
      '/file.html': '307 /file/',
      '/folder': '307 /folder/',
      '/folder/': '/folder/index.html',
      '/folder.html': '307 /folder/',
      '/both': '307 /both/',
      '/both/': '/both/index.html',
      '/both.html': '/both.html',
      '/bin': '/bin',
    },
    'drop-trailing-slash': {
      '/': '/index.html',
      '/index.html': '307 /',
      '/index': '307 /',
      '/file': '/file.html',
      '/file/': '307 /file',
      '/file.html': '307 /file',
      '/folder': '/folder/index.html',
      '/folder/': '307 /folder',
      '/folder/index.html': '307 /folder',
      '/both': '/both.html',
      '/both/': '307 /both',
      '/both/index.html': '/both/index.html',
    },
    none: {
      '/': 'not-found',
      '/index.html': '/index.html',
      '/file': 'not-found',
      '/file.html': '/file.html',
    },
  }

  for (const [htmlHandling, expected] of Object.entries(EXPECTED)) {
    test(`${htmlHandling} serves each page at one place and sends the others there`, () => {
      const of = site(ALL, { htmlHandling } as AssetsConfig)
      expect(Object.fromEntries(Object.keys(expected).map((path) => [path, ask(of, path)]))).toEqual(expected)
    })
  }

  test('a redirect keeps the query', () => {
    expect(ask(site(ALL), '/file.html?a=1&b')).toBe('307 /file?a=1&b')
  })
})

describe('paths', () => {
  test('any spelling of a path is sent to the one that the file is served at', () => {
    const of = site([...ALL, ...DEEP])
    expect(ask(of, '/a%20b.txt')).toBe('/a b.txt')
    expect(ask(of, '/%C3%A4.txt')).toBe('/ä.txt')
    expect(ask(of, '/%c3%a4.txt')).toBe('307 /%C3%A4.txt')
    expect(ask(of, '/a@b.js')).toBe('307 /a%40b.js')
    expect(ask(of, '/a%40b.js')).toBe('/a@b.js')
    expect(ask(of, '/%62in')).toBe('307 /bin')
    expect(ask(of, '//bin')).toBe('307 /bin')
    expect(ask(of, '/x/../bin')).toBe('/bin')
    expect(ask(of, '/folder%2Findex.html')).toBe('307 /folder/')
  })

  test('no path leads out of the manifest', () => {
    const of = site(ALL)
    for (const target of [
      '/../../etc/passwd',
      '/..%2f..%2fetc%2fpasswd',
      '/%2e%2e/%2e%2e/etc/passwd',
      '/..\\..\\etc',
      '/%00',
      '/%ff%fe',
      '/__proto__',
      '/constructor',
      '/bin%00.html',
    ])
      expect(ask(of, target), target).toBe('not-found')
  })

  test('the quick way and the URL parser agree on what a path is', () => {
    for (const target of [
      '/',
      '/a/b.c',
      "/a-_.!~*'()",
      '/a?b',
      '/a?',
      '/.a',
      '/a/../b',
      '//a',
      '/a%2Fb',
      '/a|b?c d',
    ]) {
      const { pathname, search } = new URL(`http://host${target}`)
      expect(readRequestPath(target)).toMatchObject({ raw: pathname, search })
    }
  })
})

describe('what is not found', () => {
  test('is the nearest 404 page with its status, or the page of a single-page application with 200', () => {
    const pages = site([...ALL, ...DEEP], { notFoundHandling: '404-page' })
    expect(ask(pages, '/x/y')).toBe('404 /404.html')
    expect(ask(pages, '/folder/x/y')).toBe('404 /folder/404.html')
    expect(ask(pages, '/folder/x')).toBe('404 /folder/404.html')
    expect(ask(site(ALL, { notFoundHandling: 'single-page-application' }), '/x/y')).toBe('/index.html')
  })

  test('takes no longer for a path of thousands of segments', () => {
    const pages = site([...ALL, ...DEEP], { notFoundHandling: '404-page' })
    const target = '/folder' + '/a'.repeat(15_000)
    const startMs = performance.now()
    for (let asked = 0; asked < 20; asked++) expect(ask(pages, target)).toBe('404 /folder/404.html')
    // Each segment by itself takes about 100 ms a request, and all of the router with it.
    expect(performance.now() - startMs).toBeLessThan(400)
  })

  test('is the code’s where there is code, but for navigations', () => {
    const of = site(ALL, { notFoundHandling: 'single-page-application' }, { hasCode: true })
    expect(ask(of, '/api')).toBe('code')
    expect(ask(of, '/api', { isNavigation: true })).toBe('/index.html')
    expect(ask(of, '/bin')).toBe('/bin')
    expect(ask(of, '/api', { filesOnly: true })).toBe('/index.html')
    const older = site(
      ALL,
      { notFoundHandling: 'single-page-application' },
      { hasCode: true, navigationsAreFiles: false },
    )
    expect(ask(older, '/api', { isNavigation: true })).toBe('code')
  })

  test('methods other than GET and HEAD are the code’s where no file is, and refused where one is', () => {
    const of = site(ALL, {}, { hasCode: true })
    expect(ask(of, '/api', { method: 'POST' })).toBe('code')
    expect(ask(of, '/bin', { method: 'POST' })).toBe('wrong-method')
    expect(ask(of, '/bin', { method: 'HEAD' })).toBe('/bin')
    expect(ask(site(ALL), '/none', { method: 'DELETE' })).toBe('not-found')
  })
})

describe('run_worker_first', () => {
  test('true gives everything to the code, but what the function asks for itself', () => {
    const of = site(ALL, { runWorkerFirst: true }, { hasCode: true })
    expect(ask(of, '/bin')).toBe('code')
    expect(ask(of, '/bin', { filesOnly: true })).toBe('/bin')
  })

  test('rules name paths for the code, and those with ! are never for it', () => {
    const config: AssetsConfig = {
      runWorkerFirst: ['/api/*', '!/api/docs/*', '/b*n'],
      notFoundHandling: 'single-page-application',
    }
    const of = site(ALL, config, { hasCode: true })
    expect(ask(of, '/api/x')).toBe('code')
    expect(ask(of, '/api/docs/x')).toBe('/index.html')
    expect(ask(of, '/bin')).toBe('code')
    expect(ask(of, '/file')).toBe('/file.html')
    // With rules, what they do not name is the files' matter.
    expect(ask(of, '/other')).toBe('/index.html')
  })

  test('a rule of many wildcards is matched in no time', () => {
    const of = site(ALL, { runWorkerFirst: [`/${'*a'.repeat(500)}*b`] }, { hasCode: true })
    expect(ask(of, `/${'a'.repeat(8_000)}`)).toBe('code')
    expect(
      of.answer({ method: 'GET', target: `/${'a'.repeat(8_000)}b`, isNavigation: false, filesOnly: false })
        .type,
    ).toBe('code')
  })
})

describe('_redirects', () => {
  const of = (text: string, config: AssetsConfig = {}): Site => site(ALL, { redirects: text, ...config })

  test('static rules come before those with placeholders, and the first line wins', () => {
    const rules = of(
      '/old /new\n/old /other 301\n/s/* /t/:splat 301\n/s/x /never 308\n# no rule\n/p/:a/:b /q/:b/:a 303',
    )
    expect(ask(rules, '/old')).toBe('302 /new')
    expect(ask(rules, '/s/x')).toBe('301 /t/x')
    expect(ask(rules, '/s/')).toBe('301 /t/')
    expect(ask(rules, '/p/1/2?q=1')).toBe('303 /q/2/1?q=1')
    expect(ask(rules, '/p/1')).toBe('not-found')
  })

  test('they come before files, keep the query unless they have one, and may lead to another host', () => {
    const rules = of('/bin https://other.example/x?a=1#f 301\n/b/* https://other.example/:splat')
    expect(ask(rules, '/bin?z=1')).toBe('301 https://other.example/x?a=1#f')
    expect(ask(rules, '/b/c/d?z=1')).toBe('302 https://other.example/c/d?z=1')
  })

  test('a path that looks like a host does not become one', () => {
    expect(ask(of('/go/* /:splat'), '/go//evil.example/x')).toBe('302 /evil.example/x')
    expect(ask(of('/go/* /:splat'), '/go/\\evil.example')).toBe('302 /evil.example')
  })

  test('status 200 serves another file at the place, and 404 where there is none, code or not', () => {
    const rules = site(ALL, { redirects: '/app/* /bin 200\n/x /none 200' }, { hasCode: true })
    expect(ask(rules, '/app/a/b')).toBe('/bin')
    expect(ask(rules, '/x')).toBe('not-found')
  })

  test('what is no rule is left out: words, statuses, hosts, circles', () => {
    const text =
      '/a\n/b /c 404\n/d /e 302 more words\nhttps://h.example/f /g\n/* /index.html 200\n/h http://plain.example/\n/i *\n/**/ /x'
    const rules = of(text)
    for (const path of ['/a', '/b', '/d', '/f', '/h', '/i', '/j'])
      expect(ask(rules, path), path).toBe('not-found')
  })

  test(`takes ${ASSET_LIMITS.staticRedirectsMax} static rules and ${ASSET_LIMITS.dynamicRedirectsMax} others`, () => {
    const lines = (count: number, suffix: string): string =>
      Array.from({ length: count }, (_, index) => `/r${index}${suffix} /to${index}`).join('\n')
    const fixed = of(lines(ASSET_LIMITS.staticRedirectsMax + 1, ''))
    expect(ask(fixed, `/r${ASSET_LIMITS.staticRedirectsMax - 1}`)).toBe(
      `302 /to${ASSET_LIMITS.staticRedirectsMax - 1}`,
    )
    expect(ask(fixed, `/r${ASSET_LIMITS.staticRedirectsMax}`)).toBe('not-found')
    const dynamic = of(lines(ASSET_LIMITS.dynamicRedirectsMax + 1, '/*'))
    expect(ask(dynamic, `/r${ASSET_LIMITS.dynamicRedirectsMax - 1}/x`)).toMatch(/^302/)
    expect(ask(dynamic, `/r${ASSET_LIMITS.dynamicRedirectsMax}/x`)).toBe('not-found')
    const long = `/long${'x'.repeat(ASSET_LIMITS.ruleLineCharsMax)} /to`
    expect(compileRedirects(long, undefined)).toBeUndefined()
  })
})

describe('_headers', () => {
  const apply = (text: string, path: string, hostname = 'h.example'): Record<string, string> => {
    const headers = ['etag', '"e"', 'cache-control', 'public']
    const list = compileHeaderRules(text)?.apply(headers, { path, hostname }) ?? headers
    return Object.fromEntries(
      list.flatMap((name, index) => (index % 2 === 0 ? [[name, list[index + 1]!]] : [])),
    )
  }
  const OWN = { etag: '"e"', 'cache-control': 'public' }

  test('set, replace the file’s own, add to those of other rules, and take away', () => {
    const text =
      '/*\n  X-A: 1\n  Cache-Control: no-store\n/b/*\n  X-A: 2\n  ! ETag\n  X-S: :splat\n/c/:id\n  X-Id: <:id>'
    expect(apply(text, '/z')).toEqual({ ...OWN, 'x-a': '1', 'cache-control': 'no-store' })
    expect(apply(text, '/b/x/y')).toEqual({ 'x-a': '1, 2', 'cache-control': 'no-store', 'x-s': 'x/y' })
    expect(apply(text, '/c/7')['x-id']).toBe('<7>')
  })

  test('may be for one host, and not for one with a port', () => {
    const text =
      'https://h.example/*\n  X-H: 1\nhttps://:name.pages.example/x\n  X-N: :name\nhttps://h.example:81/*\n  X-P: 1'
    expect(apply(text, '/a')).toEqual({ ...OWN, 'x-h': '1' })
    expect(apply(text, '/x', 'me.pages.example')).toEqual({ ...OWN, 'x-n': 'me' })
    expect(apply(text, '/x', 'a.b.pages.example')).toEqual(OWN)
  })

  test('cannot frame the answer or speak for the router, and no value breaks a line', () => {
    const text =
      '/*\n  Content-Length: 3\n  Transfer-Encoding: chunked\n  X-Isola-Version: v\n  X B: 1\n  X-C:\n  X-D: a\u0001b\n  X-E: ü'
    expect(apply(text, '/')).toEqual({ ...OWN, 'x-e': Buffer.from('ü').toString('latin1') })
  })

  test(`takes ${ASSET_LIMITS.headerRulesMax} rules`, () => {
    const text = Array.from(
      { length: ASSET_LIMITS.headerRulesMax + 1 },
      (_, index) => `/r${index}\n  X: 1`,
    ).join('\n')
    expect(apply(text, `/r${ASSET_LIMITS.headerRulesMax - 1}`)['x']).toBe('1')
    expect(apply(text, `/r${ASSET_LIMITS.headerRulesMax}`)).toEqual(OWN)
  })
})

describe('patterns', () => {
  const captures = (pattern: string, path: string): Record<string, string> | undefined => {
    const found = compilePattern(pattern)?.match(path)
    return found && Object.fromEntries(found)
  }

  test('a placeholder is a part of one segment, a star is anything', () => {
    expect(captures('/blog/:y-:m', '/blog/2026-11')).toEqual({ y: '2026', m: '11' })
    expect(captures('/blog/:y-:m', '/blog/a-b-c')).toEqual({ y: 'a-b', m: 'c' })
    expect(captures('/:a/x', '/1/2/x')).toBeUndefined()
    expect(captures('/:a', '/')).toBeUndefined()
    expect(captures('/*.js', '/a/b.js')).toEqual({ splat: 'a/b' })
    expect(captures('/x*x', '/x')).toBeUndefined()
    expect(captures('/:a/*', '/1/2/3')).toEqual({ a: '1', splat: '2/3' })
  })

  test('two stars, and a name twice, are no pattern', () => {
    for (const text of ['/*/*', '/:a/:a', '/:splat/*', '/:a:b'])
      expect(compilePattern(text), text).toBeUndefined()
  })
})

describe('conditions', () => {
  const FILE = { etag: '"abc"', sizeBytes: 10 }
  const portion = (conditions: object, isHead = false): unknown =>
    portionOf(
      FILE,
      { ifNoneMatch: undefined, ifRange: undefined, range: undefined, ...conditions },
      { isHead },
    )

  test('a client that has the file gets nothing, in any form of the list', () => {
    for (const ifNoneMatch of ['"abc"', 'W/"abc"', '"x", "abc"', '"x",W/"abc" , "y"', '*'])
      expect(portion({ ifNoneMatch }), ifNoneMatch).toEqual({ type: 'not-modified' })
    for (const ifNoneMatch of ['"abcd"', 'abc', '""', '"x"'])
      expect(portion({ ifNoneMatch })).toEqual({ type: 'whole' })
  })

  test('one range is served, several and malformed ones are not, and none beyond the end', () => {
    expect(portion({ range: 'bytes=0-0' })).toEqual({ type: 'range', start: 0, end: 1 })
    expect(portion({ range: 'bytes=5-' })).toEqual({ type: 'range', start: 5, end: 10 })
    expect(portion({ range: 'bytes=-3' })).toEqual({ type: 'range', start: 7, end: 10 })
    expect(portion({ range: 'bytes=-30' })).toEqual({ type: 'range', start: 0, end: 10 })
    expect(portion({ range: 'bytes=8-99' })).toEqual({ type: 'range', start: 8, end: 10 })
    for (const range of ['bytes=10-', 'bytes=-0'])
      expect(portion({ range })).toEqual({ type: 'unsatisfiable' })
    for (const range of ['bytes=0-1,3-4', 'bytes=5-2', 'lines=0-1', 'bytes=-', '', 'bytes=1e3-'])
      expect(portion({ range }), range).toEqual({ type: 'whole' })
  })

  test('If-Range holds for the strong tag only', () => {
    expect(portion({ range: 'bytes=0-0', ifRange: '"abc"' })).toMatchObject({ type: 'range' })
    for (const ifRange of ['W/"abc"', '"x"', 'Sat, 21 Nov 2026 00:00:00 GMT'])
      expect(portion({ range: 'bytes=0-0', ifRange })).toEqual({ type: 'whole' })
    expect(portion({ range: 'bytes=0-0' }, true)).toEqual({ type: 'whole' })
  })
})
