/**
 * Moves an array of every rank into memory that all of them see, where it stays: later collectives on it copy nothing.
 * All ranks or none: where one of them cannot, the array stays what it was on every rank, and the reason is returned.
 *
 * The array's pages (its own: `Arena.allocPages`) are replaced by pages of a file without a name, which rank 0 makes and
 * the others open through /proc; each rank also maps all ranks' parts, side by side, into a WebAssembly.Memory for the
 * kernels. Nobody has to unlink anything, and nothing is left behind however a rank dies. The mappings stay for as long
 * as somebody holds a view: V8 unmaps a memory's pages, ours included, when it collects the memory.
 */
import { closeSync, openSync } from 'node:fs'
import { LockstepError } from '../../errors.js'
import { Arena, memoryOf } from '../kernels/arena.js'
import type { Group, Region } from './group.js'
import { FILE, PAGE, stateOf, VERDICT, wholePages } from './layout.js'
import type { System } from './system.js'

const CHECK = 0x10c_57e9

/** Verdicts. */
const UNMAPPED = 0
const RIGHT = 1
const WRONG = 2

/** @throws LockstepError unless `data` has pages of its own in an Arena. */
export function requireOwnPages(data: Float32Array): void {
  const end = data.byteOffset + wholePages(data.byteLength)
  if (memoryOf(data.buffer) && data.byteOffset % PAGE === 0 && end <= data.buffer.byteLength) return
  throw new LockstepError(
    `share() was given ${data.length} floats that are not on pages of their own: allocate them with Arena.allocPages()`,
  )
}

/**
 * @param pid the process of rank 0
 * @returns why the array is not shared, if it is not.
 */
export async function shareMemory(
  group: Group,
  system: System,
  data: Float32Array,
  windowBytes: number,
  pid: number,
): Promise<string | undefined> {
  const total = wholePages(data.byteLength)
  const most = Math.max(1, Math.floor(windowBytes / group.size / PAGE)) * PAGE
  let start = 0
  do {
    const bytes = Math.min(most, total - start)
    const pages = new Uint8Array(data.buffer, data.byteOffset + start, bytes)
    const reason = await shareRegion(group, system, pages, pid)
    if (reason !== undefined) return reason
    start += bytes
  } while (start < total)
  return undefined
}

async function shareRegion(
  group: Group,
  system: System,
  pages: Uint8Array,
  pid: number,
): Promise<string | undefined> {
  const { rank, size, control } = group
  const state = stateOf(rank)
  const first = new Int32Array(pages.buffer, pages.byteOffset, 1)
  const before = first[0]!
  const attempts = new Attempts(group)

  const file = rank === 0 ? attempts.try(() => system.createFile(size * pages.length)) : undefined
  control.words[state + FILE] = file ?? -1
  if (!control.arrive()) await control.others() // rank 0's file is there
  const region = attempts.try(() => mapRegion(group, system, pages, pid))
  first[0] = CHECK + rank
  if (!control.arrive()) await control.others() // everybody has mapped it, and shows so in its part
  const mapped = attempts.reason === undefined
  attempts.try(() => checkRegion(region, size))
  const verdict = attempts.reason === undefined ? RIGHT : mapped ? WRONG : UNMAPPED
  control.words[state + VERDICT] = verdict
  if (!control.arrive()) await control.others() // everybody has looked
  if (file !== undefined) closeSync(file)
  first[0] = before
  const verdicts = Array.from({ length: size }, (_, peer) => control.words[stateOf(peer) + VERDICT])
  // A rank that could not map is why others see no sign of it.
  const failed = [UNMAPPED, WRONG].map((wrong) => verdicts.indexOf(wrong)).find((peer) => peer >= 0)
  if (failed === undefined) {
    group.regions.push(region!)
    return undefined
  }
  if (region) restore(system, pages)
  return control.fate.reasonOf(failed)
}

/** Maps all ranks' parts side by side, and this rank's own in the place of `pages`, whose contents move there. */
function mapRegion({ rank, size, control }: Group, system: System, pages: Uint8Array, pid: number): Region {
  const file = control.words[stateOf(0) + FILE]!
  if (file < 0) throw new Error('rank 0 has no memory for it')
  const bytes = pages.length
  const { buffer } = new Arena(size * bytes).memory
  const descriptor = openSync(`/proc/${pid}/fd/${file}`, 'r+')
  try {
    system.map(new Uint8Array(buffer), descriptor, 0)
    new Uint8Array(buffer, rank * bytes, bytes).set(pages)
    system.map(pages, descriptor, rank * bytes)
  } finally {
    closeSync(descriptor)
  }
  return { buffer: pages.buffer, start: pages.byteOffset, bytes, windows: buffer }
}

function checkRegion(region: Region | undefined, size: number): void {
  for (let peer = 0; region && peer < size; peer++) {
    const [word] = new Int32Array(region.windows, peer * region.bytes, 1)
    if (word !== CHECK + peer) throw new Error(`the window on rank ${peer} shows other memory than its own`)
  }
}

/** Private pages again, with the same contents. */
function restore(system: System, pages: Uint8Array): void {
  const contents = pages.slice()
  system.unmap(pages)
  pages.set(contents)
}

/** Steps that may fail on one rank only: the others still come to the same syncs, and read the reason afterwards. */
class Attempts {
  reason: string | undefined
  readonly #group: Group

  constructor(group: Group) {
    this.#group = group
  }

  try<T>(step: () => T): T | undefined {
    if (this.reason !== undefined) return undefined
    try {
      return step()
    } catch (error) {
      const { fate } = this.#group.control
      this.reason = `rank ${fate.nameOf(fate.rank)}: ${(error as Error).message}`
      fate.explain(this.reason)
      return undefined
    }
  }
}
