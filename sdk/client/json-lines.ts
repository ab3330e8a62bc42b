import { unreachable } from './call.ts'

/** The JSON lines of a response as they come. Ends quietly when `signal` aborts; throws `node_unreachable`. */
export async function* readJsonLines<Line>(
  response: Response,
  options: { readonly controlUrl: string; readonly signal?: AbortSignal | undefined },
): AsyncGenerator<Line, void, void> {
  const decoder = new TextDecoder()
  let rest = ''
  try {
    for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
      rest = lines.pop() ?? ''
      // An empty line only says that the node is still there.
      for (const line of lines) if (line !== '') yield JSON.parse(line) as Line
    }
  } catch (error) {
    if (options.signal?.aborted !== true) throw unreachable(options.controlUrl, error)
  }
}
