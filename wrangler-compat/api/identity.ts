/**
 * Who a token is. There is one token, which may everything, and one account; both are the node's. A wrong token never comes
 * here: `api.ts` refuses it with the code on which wrangler says so.
 */
import type { ApiCall, Endpoints } from './endpoint.ts'
import { CloudflareError } from './api-error.ts'
import { Enveloped, wholeList } from './envelope.ts'

const TOKEN_ID = '0'.repeat(32)

export const identityEndpoints: Endpoints = {
  'GET /user/tokens/verify': () => ({ id: TOKEN_ID, status: 'active' }),
  'GET /accounts/:account/tokens/verify': () => ({ id: TOKEN_ID, status: 'active' }),
  /** wrangler shows the address, and asks for a permission that nobody can give where there is none. */
  'GET /user': ({ ports }) => ({ id: TOKEN_ID, email: `isola@${ports.baseDomain}`, username: 'isola' }),
  'GET /accounts': (call) => firstPage(call, [showAccount(call)]),
  'GET /accounts/:account': showAccount,
  'GET /memberships': (call) =>
    firstPage(call, [
      {
        id: TOKEN_ID,
        status: 'accepted',
        account: showAccount(call),
        roles: ['Super Administrator - All Privileges'],
      },
    ]),
  /** Some of wrangler's commands ask it for figures; the answer is no envelope. */
  'POST /graphql': () => {
    throw new CloudflareError(
      'noRoute',
      'isola has no analytics over GraphQL: read figures with "isola status", "isola usage" or from /metrics of the control port',
    )
  },
}

function showAccount({ ports }: ApiCall): Record<string, unknown> {
  return { id: ports.accountId, name: ports.accountId, type: 'standard', settings: {} }
}

/** The whole list, and nothing on any page after: clients go on until one is empty. */
export function firstPage({ query }: ApiCall, items: readonly unknown[]): Enveloped {
  const page = Number(query.get('page') ?? '1')
  if (!(page > 1)) return wholeList(items)
  const { resultInfo } = wholeList(items)
  return new Enveloped([], { resultInfo: { ...resultInfo, page, count: 0 } })
}
