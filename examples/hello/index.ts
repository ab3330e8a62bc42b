/** The smallest function: a request in, a response out. */
export default {
  fetch(request) {
    const { pathname } = new URL(request.url)
    return new Response(`Hello from isola! You asked for ${pathname}\n`)
  },
} satisfies ExportedHandler
