import { expect, test } from 'vitest'
import { ROUTER_LIMITS } from '../../sdk/model/limits.ts'
import { parseHost } from '../../router/table/host.ts'

test.each([
  ['shop.example', 'shop.example'],
  ['Shop.EXAMPLE', 'shop.example'],
  ['shop.example:8080', 'shop.example'],
  ['SHOP.example.:65535', 'shop.example'],
  ['shop.example:', 'shop.example'],
  ['shop.example.', 'shop.example'],
  ['127.0.0.1:80', '127.0.0.1'],
  ['_dmarc.a-b.example', '_dmarc.a-b.example'],
  ['localhost', 'localhost'],
])('the host of %j is %j', (header, host) => {
  expect(parseHost(header)).toBe(host)
})

test.each([
  '',
  '.',
  '..',
  '.example',
  'a..example',
  'a.example..',
  ':80',
  '.:80',
  '[::1]',
  '[::1]:80',
  '::1',
  'a:b',
  'a:80:80',
  'a:123456',
  'a:+80',
  'a b',
  ' a',
  'a,b',
  'a/b',
  'a@b',
  'user:pw@a.example',
  'a%2eexample',
  'bücher.example',
  'a\u0000b',
  'a\texample',
  '*.example',
  'a\u212Aelvin',
])('%j is no host name', (header) => {
  expect(parseHost(header)).toBeUndefined()
})

test('a host may be as long as a DNS name, and no longer', () => {
  const longest = `${'a'.repeat(ROUTER_LIMITS.hostCharsMax - 2)}.b`
  expect(parseHost(longest)).toBe(longest)
  expect(parseHost(`${longest}.:8080`)).toBe(longest)
  expect(parseHost(`a${longest}`)).toBeUndefined()
})
