/** Says what it was asked, and by which client it was called. */
export async function handler(event, context) {
  return {
    path: event.rawPath,
    requestId: context.awsRequestId,
    client: process.argv[1],
    remainingMs: context.getRemainingTimeInMillis(),
  }
}
