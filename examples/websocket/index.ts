/** Sends back every message. A browser that just opens the page gets one that talks to it. */
import page from './page.html'

export default {
  fetch(request) {
    if (request.headers.get('upgrade') !== 'websocket') {
      return new Response(page, { headers: { 'content-type': 'text/html; charset=utf-8' } })
    }
    const { 0: client, 1: server } = new WebSocketPair()
    // Bytes come back as bytes: as a Blob they would have to be awaited first.
    server.binaryType = 'arraybuffer'
    server.accept()
    server.addEventListener('message', ({ data }) => server.send(data))
    return new Response(null, { status: 101, webSocket: client })
  },
} satisfies ExportedHandler
