import type { Call } from './call.ts'
import { ALGORITHM, encodeStrictly, scopeText, sha256Hex, signatureOf } from './canonical-request.ts'
import { basicDate } from './signature.ts'

const EXPIRES_S = 600

/** Of a function's archive, here, for whoever has the URL and for ten minutes, as AWS gives one of S3's. */
export function presignedUrl(call: Call, functionName: string, qualifier: string | undefined): string {
  const amzDate = basicDate(new Date().toISOString()) ?? ''
  const scope = { date: amzDate.slice(0, 8), region: call.region, service: 'lambda' }
  const path = `/2015-03-31/functions/${functionName}/code`
  const query = Object.entries({
    ...(qualifier !== undefined && { Qualifier: qualifier }),
    'X-Amz-Algorithm': ALGORITHM,
    'X-Amz-Credential': `${call.accessKeyId}/${scopeText(scope)}`,
    'X-Amz-Date': amzDate,
    'X-Amz-Expires': String(EXPIRES_S),
    'X-Amz-SignedHeaders': 'host',
  })
    .map(([name, value]) => `${name}=${encodeStrictly(value)}`)
    .join('&')
  const host = call.headers.get('host') ?? call.url.host
  const signature = signatureOf({
    parts: {
      method: 'GET',
      path,
      query,
      headers: new Headers({ host }),
      signedHeaders: ['host'],
      bodyHash: sha256Hex(''),
    },
    scope,
    amzDate,
    secretAccessKey: call.ports.keys.secretOf(call.accessKeyId) ?? '',
  })
  return `${call.url.protocol}//${host}${path}?${query}&X-Amz-Signature=${signature}`
}
