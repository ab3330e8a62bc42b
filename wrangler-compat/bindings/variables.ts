import { z } from 'zod'
import { BUNDLE_LIMITS } from '../../sdk/model/limits.ts'
import { bindingType, type BindingRefusal } from './binding-type.ts'

export const plainText = bindingType({
  type: 'plain_text',
  fields: z.object({ text: z.string() }),
  read: ({ name, text }) => tooLong(name, text) ?? { type: 'text', name, text },
  show: (binding) => (binding.type === 'text' ? { text: binding.text } : undefined),
})

export const json = bindingType({
  type: 'json',
  fields: z.object({ json: z.json() }),
  read: ({ name, json }) => tooLong(name, JSON.stringify(json)) ?? { type: 'json', name, json },
  show: (binding) => (binding.type === 'json' ? { json: binding.json } : undefined),
})

export const secretText = bindingType({
  type: 'secret_text',
  fields: z.object({ text: z.string() }),
  read: ({ name, text }, { seal }) =>
    tooLong(name, text) ?? { type: 'secret', name, sealed: seal({ name, text }) },
  show: (binding) => (binding.type === 'secret' ? {} : undefined),
})

function tooLong(name: string, text: string): BindingRefusal | undefined {
  const sizeBytes = Buffer.byteLength(text)
  if (sizeBytes <= BUNDLE_LIMITS.varBytesMax) return undefined
  return {
    refused: `binding "${name}" has ${sizeBytes} bytes, more than the ${BUNDLE_LIMITS.varBytesMax} a variable may have: put it into a module`,
  }
}
