/** Makes pictures smaller: POST one, or GET the sample. `?width=` says how wide, `?format=` jpeg, webp or avif. */
import sharp from 'sharp'

const FORMATS = ['jpeg', 'webp', 'avif']
const WIDTH_MAX = 4096
const PIXELS_MAX = 50_000_000

const SAMPLE = Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" width="1200" height="800">
  <rect width="1200" height="800" fill="#8ecae6"/><circle cx="980" cy="180" r="90" fill="#ffb703"/>
  <path d="M0 620 Q300 560 600 620 T1200 620 V800 H0Z" fill="#219ebc"/>
  <path d="M420 620 Q600 380 780 620Z" fill="#fb8500"/></svg>`)

export async function handler({ body, isBase64Encoded, queryStringParameters = {}, requestContext }) {
  const width = Number(queryStringParameters.width ?? 320)
  const format = queryStringParameters.format ?? 'jpeg'
  if (!Number.isInteger(width) || width < 1 || width > WIDTH_MAX) {
    return problem(`width is "${queryStringParameters.width}": give 1 to ${WIDTH_MAX}`)
  }
  if (!FORMATS.includes(format)) return problem(`format is "${format}": give one of ${FORMATS.join(', ')}`)
  const picture = body === undefined ? SAMPLE : Buffer.from(body, isBase64Encoded ? 'base64' : 'utf8')
  if (body === undefined && requestContext?.http.method === 'POST') return problem('POST a picture')
  try {
    const { data, info } = await sharp(picture, { limitInputPixels: PIXELS_MAX })
      .rotate()
      .resize({ width, withoutEnlargement: true })
      .toFormat(format, { quality: 80 })
      .toBuffer({ resolveWithObject: true })
    return {
      statusCode: 200,
      headers: { 'content-type': `image/${format}`, 'x-size': `${info.width}x${info.height}` },
      isBase64Encoded: true,
      body: data.toString('base64'),
    }
  } catch (error) {
    return problem(error.message)
  }
}

function problem(message) {
  return { statusCode: 400, headers: { 'content-type': 'text/plain' }, body: `${message}\n` }
}
