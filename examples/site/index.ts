/** A small site, its page a file beside the code. The edge example stands in front of it. */
import page from './page.html'

export default {
  fetch(request) {
    const { pathname } = new URL(request.url)
    if (pathname !== '/') return new Response('no such page\n', { status: 404 })
    return new Response(page, { headers: { 'content-type': 'text/html; charset=utf-8' } })
  },
} satisfies ExportedHandler
