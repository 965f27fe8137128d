/** The signals that end a job, and when they come. It refuses to know what is done about them. */

export interface Interruptions {
  readonly first: Promise<NodeJS.Signals>
  /** Somebody is in a hurry. */
  readonly second: Promise<unknown>
}

export function listenForInterruptions(): Interruptions {
  const listeners: ((signal: NodeJS.Signals) => void)[] = []
  const next = () => new Promise<NodeJS.Signals>((resolve) => listeners.push(resolve))
  const [first, second] = [next(), next()]
  const interrupt = (signal: NodeJS.Signals) => listeners.shift()?.(signal)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interrupt(signal))
  // Whoever read our output has gone (`ddp-launch … | head`).
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => interrupt('SIGPIPE'))
  return { first, second }
}
