/** The unmodified AWS SDK against a whole node: real signatures, real router, real containers. */
import {
  CreateAliasCommand,
  CreateFunctionCommand,
  CreateFunctionUrlConfigCommand,
  DeleteFunctionCommand,
  InvokeCommand,
  InvokeWithResponseStreamCommand,
  LambdaClient,
  PublishVersionCommand,
  UpdateAliasCommand,
  UpdateFunctionCodeCommand,
  waitUntilFunctionActiveV2,
  type InvokeWithResponseStreamResponseEvent,
} from '@aws-sdk/client-lambda'
import { expect } from 'vitest'
import type { NewAccessKey } from '../../sdk/model/lambda.ts'
import { engineTest } from '../harness/engine.ts'
import { startTestNode } from '../harness/node.ts'
import { newFunction, zipOf } from '../runtime/lambda-api-place.ts'

const CODE = `
export const handler = async (event, context) => {
  if (event.fail) throw new RangeError('as asked')
  console.log('handling', event.n ?? 'a request')
  return { n: event.n, id: context.awsRequestId, arn: context.invokedFunctionArn }
}`

engineTest('makes a function, calls it in every way, and takes it away', async () => {
  await using node = await startTestNode()
  const { stdout } = await node.isola('keys', 'create', '--json')
  const credentials = JSON.parse(stdout) as NewAccessKey
  const client = new LambdaClient({
    endpoint: node.controlUrl,
    region: 'us-east-1',
    credentials,
    maxAttempts: 1,
  })
  const FunctionName = 'greet'
  try {
    await client.send(new CreateFunctionCommand(await newFunction(FunctionName, { 'index.mjs': CODE })))
    await waitUntilFunctionActiveV2({ client, maxWaitTime: 60 }, { FunctionName })

    const answer = await client.send(new InvokeCommand({ FunctionName, Payload: '{"n":7}', LogType: 'Tail' }))
    expect(answer.FunctionError).toBeUndefined()
    const { requestId } = answer.$metadata
    expect(JSON.parse(answer.Payload?.transformToString() ?? '')).toEqual({
      n: 7,
      id: requestId,
      arn: 'arn:aws:lambda:us-east-1:000000000000:function:greet',
    })
    const log = Buffer.from(answer.LogResult ?? '', 'base64').toString()
    expect(log).toContain(`START RequestId: ${requestId}`)
    expect(log).toContain(`REPORT RequestId: ${requestId}`)
    expect(log).toContain('handling 7')

    const failed = await client.send(new InvokeCommand({ FunctionName, Payload: '{"fail":true}' }))
    expect(failed).toMatchObject({ StatusCode: 200, FunctionError: 'Unhandled' })
    expect(JSON.parse(failed.Payload?.transformToString() ?? '')).toMatchObject({
      errorType: 'RangeError',
      errorMessage: 'as asked',
    })

    const streamed = await client.send(
      new InvokeWithResponseStreamCommand({ FunctionName, Payload: '{"n":8}' }),
    )
    const events: InvokeWithResponseStreamResponseEvent[] = []
    for await (const event of streamed.EventStream ?? []) events.push(event)
    expect(Buffer.from(events[0]?.PayloadChunk?.Payload ?? []).toString()).toContain('"n":8')
    expect(events.at(-1)?.InvokeComplete).toEqual({})

    const event = new InvokeCommand({ FunctionName, InvocationType: 'Event', Payload: '{"n":9}' })
    expect((await client.send(event)).StatusCode).toBe(202)

    await client.send(new PublishVersionCommand({ FunctionName }))
    const ZipFile = await zipOf({ 'index.mjs': 'export const handler = () => "second"' })
    await client.send(new UpdateFunctionCodeCommand({ FunctionName, ZipFile, Publish: true }))
    const alias = { FunctionName, Name: 'live', FunctionVersion: '1' }
    await client.send(new CreateAliasCommand(alias))
    const call = async (Qualifier: string): Promise<string | undefined> =>
      (await client.send(new InvokeCommand({ FunctionName, Qualifier }))).Payload?.transformToString()
    expect(await call('live')).toContain('function:greet:live')
    expect(await call('2')).toBe('"second"')
    await client.send(new UpdateAliasCommand({ ...alias, FunctionVersion: '2' }))
    expect(await call('live')).toBe('"second"')

    await client.send(new CreateFunctionUrlConfigCommand({ FunctionName, AuthType: 'NONE' }))
    const response = await node.fetch('greet.localhost')
    expect([response.status, response.text()]).toEqual([200, '"second"'])

    await client.send(new DeleteFunctionCommand({ FunctionName }))
    expect((await node.fetch('greet.localhost')).status).toBe(404)
  } finally {
    client.destroy()
  }
})
