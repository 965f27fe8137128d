/**
 * Starts one of our modules as a worker thread, from a build (.js) as from source (.ts).
 */
import { Worker } from 'node:worker_threads'

/**
 * `url` is the module's with the ending that its importer has. Node 20 cannot start a worker from a .ts file: there
 * a line of JavaScript registers tsx in the new thread, then imports the module.
 */
export function startWorker(url: URL, workerData: unknown): Worker {
  // Not the parent's --import and the like: what the worker needs, it registers itself.
  const options = { workerData, execArgv: [] }
  if (!url.pathname.endsWith('.ts')) return new Worker(url, options)
  const [loader, module] = [import.meta.resolve('tsx/esm/api'), url.href].map((name) => JSON.stringify(name))
  const start = `import(${loader}).then(({ register }) => { register(); return import(${module}) })`
  return new Worker(start, { ...options, eval: true })
}
