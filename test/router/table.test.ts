import { describe, expect, test } from 'vitest'
import { compileTable } from '../../router/table/table.ts'
import { aFunction, aSnapshot, nameAt } from '../harness/snapshots.ts'

describe('which host answers', () => {
  const table = compileTable(
    aSnapshot([
      aFunction('shop', { patterns: ['shop.example/*', 'www.shop.example/*'] }),
      aFunction('any', { patterns: ['*.example/*'] }),
      aFunction('deep', { patterns: ['*.eu.example/*'] }),
      aFunction('api', { patterns: ['shop.example/api/*'] }),
      aFunction('only', { patterns: ['one.example/only'] }),
    ]),
  )
  test('an exact host goes before a wildcard that covers it', () => {
    expect(nameAt(table, 'shop.example', '/')).toBe('shop')
    expect(nameAt(table, 'www.shop.example', '/')).toBe('shop')
  })
  test('of two wildcards the longer suffix wins, at any depth', () => {
    expect(nameAt(table, 'a.example', '/')).toBe('any')
    expect(nameAt(table, 'a.eu.example', '/')).toBe('deep')
    expect(nameAt(table, 'a.b.c.eu.example', '/')).toBe('deep')
    expect(nameAt(table, 'eu.example', '/')).toBe('any')
  })
  test('a wildcard does not match the bare host, nor a host that merely ends alike', () => {
    expect(nameAt(table, 'example', '/')).toBeUndefined()
    expect(nameAt(table, 'notexample', '/')).toBeUndefined()
    expect(nameAt(table, '.example', '/')).toBeUndefined()
  })
  test('a host whose own routes do not fit the path goes on to the wildcard', () => {
    expect(nameAt(table, 'one.example', '/only')).toBe('only')
    expect(nameAt(table, 'one.example', '/other')).toBe('any')
  })
  test('a trailing dot names the same host', () => {
    expect(nameAt(table, 'shop.example.', '/api/x')).toBe('api')
    expect(nameAt(table, 'hello.localhost.', '/')).toBeUndefined()
  })
  test('a pattern in upper case is the same host', () => {
    const upper = compileTable(aSnapshot([aFunction('shop', { patterns: ['SHOP.Example/*'] })]))
    expect(nameAt(upper, 'shop.example', '/')).toBe('shop')
  })
  test.each([
    '__proto__',
    'constructor',
    '',
    '.',
    '..',
    '*.example',
    '[::1]',
    '::1',
    'a\0b',
    'a'.repeat(5_000),
    '.'.repeat(5_000),
  ])('the host %j is nobody', (host) => {
    const nothing = compileTable(
      aSnapshot([aFunction('shop', { patterns: ['shop.example/*', '*.shop.example/*'] })]),
    )
    expect(nothing.match(host, '/')).toBeUndefined()
  })
})

describe('which path answers', () => {
  const table = compileTable(
    aSnapshot([
      aFunction('site', { patterns: ['site.example/*'] }),
      aFunction('admin', { patterns: ['site.example/admin/*'] }),
      aFunction('login', { patterns: ['site.example/admin/login'] }),
      aFunction('logins', { patterns: ['site.example/admin/login*'] }),
      aFunction('adm', { patterns: ['site.example/adm*'] }),
      aFunction('cafe', { patterns: ['site.example/café/*'] }),
      aFunction('escaped', { patterns: ['site.example/a%2fb/*'] }),
    ]),
  )
  test('the longest prefix wins, whatever order the routes came in', () => {
    expect(nameAt(table, 'site.example', '/')).toBe('site')
    expect(nameAt(table, 'site.example', '/about')).toBe('site')
    expect(nameAt(table, 'site.example', '/admin/users')).toBe('admin')
    expect(nameAt(table, 'site.example', '/admin/')).toBe('admin')
    expect(nameAt(table, 'site.example', '/zebra')).toBe('site')
  })
  test('a prefix that ends in a slash does not match without it', () => {
    expect(nameAt(table, 'site.example', '/admin')).toBe('adm')
    expect(nameAt(table, 'site.example', '/administrator')).toBe('adm')
  })
  test('an exact path goes before a prefix of the same length', () => {
    expect(nameAt(table, 'site.example', '/admin/login')).toBe('login')
    expect(nameAt(table, 'site.example', '/admin/login/')).toBe('logins')
    expect(nameAt(table, 'site.example', '/admin/logi')).toBe('admin')
  })
  test('a query or fragment is no part of the path', () => {
    expect(nameAt(table, 'site.example', '/admin/login?next=/')).toBe('login')
    expect(nameAt(table, 'site.example', '/?/admin/login')).toBe('site')
    expect(nameAt(table, 'site.example', '/?/../admin/login')).toBe('site')
    expect(nameAt(table, 'site.example', '/public#/../admin/')).toBe('site')
    expect(nameAt(table, 'site.example', '/adm?in/')).toBe('adm')
  })
  test('the case of a path matters', () => {
    expect(nameAt(table, 'site.example', '/Admin/users')).toBe('site')
  })
  test('a target that is no path matches nothing', () => {
    for (const target of ['*', '', 'admin/', 'http://site.example/admin/', '?']) {
      expect(table.match('site.example', target)).toBeUndefined()
    }
  })

  test.each([
    '/%61dmin/users',
    '/%61%64%6D%69%6e/users',
    '//admin/users',
    '////admin//users',
    '/./admin/users',
    '/x/../admin/users',
    '/x/%2e%2e/admin/users',
    '/x/.%2E/admin/users',
    '/../../admin/users',
    '\\admin\\users',
    '/\\admin/users',
    '/admin/./users',
    '/admin//../admin/users',
    '/admin/x/..',
    '/admin/.',
  ])('a route cannot be walked around by spelling its path %j', (path) => {
    const target = path.startsWith('/') ? path : `/${path}`
    expect(nameAt(table, 'site.example', target)).toBe('admin')
  })
  test.each([
    ['/admin/../public', 'site'],
    ['/admin%2Fusers', 'adm'],
    ['/a%2Fb/c', 'escaped'],
    ['/a/b/c', 'site'],
    ['/%2561dmin/users', 'site'],
    ['/.admin/users', 'site'],
    ['/%', 'site'],
    ['/%zz/admin/', 'site'],
    ['/%6', 'site'],
    ['/caf%C3%A9/menu', 'cafe'],
    ['/caf%c3%a9/menu', 'cafe'],
    ['/cafÃ©/menu', 'cafe'],
  ])('%j goes where the URL parser of a function would see it: to %s', (target, name) => {
    expect(nameAt(table, 'site.example', target)).toBe(name)
  })
  test('patterns are compared in the same form as paths', () => {
    const odd = compileTable(
      aSnapshot([
        aFunction('known', { patterns: ['a.example/.well-known/*'] }),
        aFunction('spelled', { patterns: ['a.example/%61dmin/*'] }),
        aFunction('dots', { patterns: ['a.example/x/../y'] }),
      ]),
    )
    expect(nameAt(odd, 'a.example', '/.well-known/acme')).toBe('known')
    expect(nameAt(odd, 'a.example', '/admin/x')).toBe('spelled')
    expect(nameAt(odd, 'a.example', '/y')).toBe('dots')
  })
})

describe('hosts that functions have by name', () => {
  const newer = 'aaaaaaaa0000000000000000000000ff'
  const older = 'aaaaaaaa111111111111111111111111'
  const other = 'bbbbbbbb111111111111111111111111'
  const table = compileTable(
    aSnapshot([
      aFunction('hello', { baseDomainHost: true, previewVersionIds: [newer, older, other] }),
      aFunction('quiet', { previewVersionIds: [other] }),
      aFunction('cccccccc-hello', { baseDomainHost: true }),
      aFunction('bbbbbbbb-quiet', { baseDomainHost: true }),
      aFunction('front', { patterns: ['hello.localhost/assets/*'] }),
    ]),
  )
  test('<function>.<base domain> answers where the function wants it', () => {
    expect(nameAt(table, 'hello.localhost', '/')).toBe('hello')
    expect(nameAt(table, 'quiet.localhost', '/')).toBeUndefined()
    expect(nameAt(table, 'nobody.localhost', '/')).toBeUndefined()
    expect(nameAt(table, 'localhost', '/')).toBeUndefined()
    expect(nameAt(table, 'www.hello.localhost', '/')).toBeUndefined()
    expect(nameAt(table, 'hellolocalhost', '/')).toBeUndefined()
  })
  test('a route goes before it, and only where the path fits', () => {
    expect(nameAt(table, 'hello.localhost', '/assets/a.css')).toBe('front')
    expect(nameAt(table, 'hello.localhost', '/else')).toBe('hello')
  })
  test('a preview host pins its version, though it has no share', () => {
    expect(table.match('bbbbbbbb-hello.localhost', '/')).toMatchObject({
      entry: { name: 'hello' },
      pinnedVersionId: other,
    })
    expect(nameAt(table, 'dddddddd-hello.localhost', '/')).toBeUndefined()
    expect(nameAt(table, 'bbbbbbb-hello.localhost', '/')).toBeUndefined()
  })
  test('of two versions with the same first digits the newer one answers', () => {
    expect(table.match('aaaaaaaa-hello.localhost', '/')?.pinnedVersionId).toBe(newer)
  })
  test('a function named like a preview host keeps its own', () => {
    expect(nameAt(table, 'cccccccc-hello.localhost', '/')).toBe('cccccccc-hello')
    expect(nameAt(table, 'bbbbbbbb-quiet.localhost', '/')).toBe('bbbbbbbb-quiet')
  })
  test('requests of one route get one object', () => {
    const first = table.match('hello.localhost', '/')
    expect(table.match('hello.localhost', '/again')).toBe(first)
    expect(first?.pinnedVersionId).toBeUndefined()
    expect(first?.entry).toBe(table.entries[0])
  })
})
