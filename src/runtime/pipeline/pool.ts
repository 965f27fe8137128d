/** Buffers that are used again: as many as are in use at once are made, and kept. */
export class Pool<T> {
  private readonly free: T[] = []
  /** How many there are. */
  size = 0

  constructor(private readonly make: () => T) {}

  take(): T {
    const found = this.free.pop()
    if (found !== undefined) return found
    this.size++
    return this.make()
  }

  give(item: T): void {
    this.free.push(item)
  }
}
