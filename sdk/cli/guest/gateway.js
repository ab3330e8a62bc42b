/**
 * Stands before the function in `isola dev` and does what the router does on a node: an id for every request, and a
 * JSON body for what the function did not answer itself.
 */
export default {
  async fetch(request, env) {
    const requestId = crypto.randomUUID().replaceAll('-', '')
    const headers = new Headers(request.headers)
    for (const name of request.headers.keys()) if (name.startsWith('cf-')) headers.delete(name)
    const url = new URL(request.url)
    headers.set('x-request-id', requestId)
    headers.set('x-forwarded-for', request.headers.get('cf-connecting-ip') ?? '127.0.0.1')
    headers.set('x-forwarded-proto', url.protocol.slice(0, -1))
    headers.set('x-forwarded-host', url.host)
    let response
    try {
      // Made anew rather than copied: on a node there is no `request.cf`.
      const { method, body, signal } = request
      response = await env.FUNCTION.fetch(request.url, { method, headers, body, signal, redirect: 'manual' })
    } catch (error) {
      return refusal('instance_crashed', error.message, requestId)
    }
    const code = response.headers.get('isola-error')
    if (code !== null) {
      return refusal(code, 'the function threw an exception: the terminal of "isola dev" shows it', requestId)
    }
    if (response.webSocket) return response
    const answer = new Response(response.body, response)
    answer.headers.set('x-request-id', requestId)
    return answer
  },
}

function refusal(code, message, requestId) {
  const status = code === 'function_threw' ? 500 : 502
  return Response.json(
    { error: { code, message, requestId } },
    { status, headers: { 'x-request-id': requestId } },
  )
}
