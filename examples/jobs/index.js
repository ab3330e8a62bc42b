/**
 * A job that nobody waits for:
 *
 *   isola invoke jobs --async --payload '{"pages": 40}'
 *
 * One that fails is tried twice more, a minute and two minutes later, and is a dead letter then:
 *
 *   isola invoke jobs --async --payload '{"pages": 40, "tornAt": 7}'
 *   isola dead-letters jobs
 *   isola dead-letters redrive ID
 *
 * An event may come twice. Its request id tells: it stays the same.
 */
const { setTimeout } = require('node:timers/promises')

exports.handler = async ({ pages, pageMs = 100, tornAt }, context) => {
  if (!Number.isInteger(pages)) throw new TypeError(`pages is ${JSON.stringify(pages)}: give a whole number`)
  for (let page = 1; page <= pages; page += 1) {
    if (page === tornAt) throw new Error(`page ${page} is torn`)
    await setTimeout(pageMs)
    if (page % 10 === 0)
      console.log(`${page} of ${pages} pages, ${context.getRemainingTimeInMillis()} ms left`)
  }
  console.log('done')
  return { job: context.awsRequestId, pages }
}
