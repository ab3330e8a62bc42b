/** A page of pictures, each made by a function in a container: an isolate in front, what it cannot do behind. */
interface Env {
  /** "services" in wrangler.jsonc */
  RESIZE: Fetcher
}

const WIDTHS = [480, 240, 120]

export default {
  async fetch(request, env) {
    const url = new URL(request.url)
    if (url.pathname === '/') return new Response(page(), { headers: { 'content-type': 'text/html' } })
    const width = /^\/(\d+)\.(?:jpeg|webp|avif)$/.exec(url.pathname)?.[1]
    if (!WIDTHS.includes(Number(width))) return new Response('no such picture\n', { status: 404 })
    const format = url.pathname.split('.')[1]
    // The host is the function's to see; the binding decides where it goes.
    const picture = await env.RESIZE.fetch(`https://resize/?width=${width}&format=${format}`)
    const answer = new Response(picture.body, picture)
    answer.headers.set('cache-control', 'public, max-age=3600')
    return answer
  },
} satisfies ExportedHandler<Env>

function page(): string {
  const pictures = WIDTHS.map((width) => `<img src="/${width}.jpeg" width="${width}" alt="an island">`)
  return `<!doctype html><meta charset="utf-8"><title>Gallery</title>${pictures.join('\n')}\n`
}
