/**
 * Middleware in front of a site: fetch(request) reaches the route's origin, not this function again.
 *
 *   isola routes add 'www.localhost/*' edge --origin http://site.localhost:8080
 */
export default {
  async fetch(request) {
    const response = await fetch(request)
    const answer = new Response(response.body, response)
    answer.headers.set('x-edge', 'isola')
    if (!answer.headers.get('content-type')?.startsWith('text/html')) return answer
    return new HTMLRewriter()
      .on('h1', {
        element(heading) {
          heading.append(', seen from the edge')
        },
      })
      .on('a[href^="http:"]', {
        element(link) {
          link.setAttribute('href', link.getAttribute('href')?.replace(/^http:/, 'https:') ?? '')
        },
      })
      .transform(answer)
  },
} satisfies ExportedHandler
