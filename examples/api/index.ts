/** A JSON API: Hono routes the paths, `env` holds what the configuration says. */
import { Hono } from 'hono'

interface Env {
  /** "vars" in wrangler.jsonc */
  GREETING: string
}

const BOOKS = [
  { id: 1, title: 'The Island of Doctor Moreau', year: 1896 },
  { id: 2, title: 'Treasure Island', year: 1883 },
  { id: 3, title: 'Utopia', year: 1516 },
]

const app = new Hono<{ Bindings: Env }>()

app.get('/', (context) =>
  context.json({ message: context.env.GREETING, try: ['/books', '/books/2', '/books?before=1800'] }),
)

app.get('/books', (context) => {
  const before = Number(context.req.query('before') ?? Infinity)
  return context.json({ books: BOOKS.filter((book) => book.year < before) })
})

app.get('/books/:id', (context) => {
  const book = BOOKS.find(({ id }) => id === Number(context.req.param('id')))
  return book === undefined ? context.json({ error: 'no such book' }, 404) : context.json(book)
})

app.post('/echo', async (context) => context.json({ received: await context.req.json() }, 201))

app.notFound((context) => context.json({ error: `no route ${context.req.method} ${context.req.path}` }, 404))

export default app
