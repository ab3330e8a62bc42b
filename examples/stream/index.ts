/** A response that is made while it is read: one line every `pauseMs`, sent as soon as it is there. */
export default {
  fetch(request) {
    const { searchParams } = new URL(request.url)
    const lines = bounded(searchParams.get('lines'), 10, 1_000)
    const pauseMs = bounded(searchParams.get('pauseMs'), 300, 10_000)
    let line = 0
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        if (line > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs))
        line += 1
        controller.enqueue(new TextEncoder().encode(`line ${line} of ${lines}\n`))
        if (line === lines) controller.close()
      },
    })
    return new Response(body, { headers: { 'content-type': 'text/plain; charset=utf-8' } })
  },
} satisfies ExportedHandler

function bounded(text: string | null, byDefault: number, max: number): number {
  const value = Number(text ?? byDefault)
  return Number.isInteger(value) && value >= 1 && value <= max ? value : byDefault
}
