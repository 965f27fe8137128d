/**
 * Where everything lies in the memory that the ranks of one host share. Offsets in bytes; pure arithmetic.
 *
 *        0  +---------------------------------------------------------------+
 *           | header   magic | version | size | - | 16 random bytes         |  64: is this the memory we mean?
 *       64  | abort    0, or 1 + the rank whose reason says what went wrong |  64
 *      128  | sleepers how many ranks sleep on a futex                      |  64
 *      192  | rank 0   line of even syncs                                   |  64 \
 *           |          line of odd syncs                                    |  64  | one writer: rank 0
 *           |          state: left | failed | verdict | file | reason length|  64  |
 *           |          reason, UTF-8                                        | 832 /
 *     1216  | rank 1   …                                                    |
 *           +---------------------------------------------------------------+
 *           | directory of channels: 256 entries id low | id high | rank-0 process | 1 + file  16 each
 *           +---------------------------------------------------------------+  a page border
 *           | rank 0   buffer 0                                             |  `stageBytes` each
 *           |          buffer 1                                             |
 *           | rank 1   …                                                    |
 *           +===============================================================+  end of the shared file
 *           | scratch  this rank's own, invisible to the others             |  `stageBytes`
 *           +---------------------------------------------------------------+
 *
 * Everything that is waited for lies on a cache line of its own and has one writer, except for the abort word (first one
 * wins, compare-and-exchange) and the sleepers (add and sub).
 */

const LINE = 64
/** The largest page of the systems we run on (arm64 has 64 KiB ones), and a WebAssembly page. */
export const PAGE = 65_536

/** int32 words of the header. */
export const MAGIC = 0x4b434f4c // "LOCK" in memory order
export const VERSION = 1
export const NONCE_WORDS = 4
export const HEADER_NONCE = 4
export const ABORT = LINE / 4
export const SLEEPERS = (2 * LINE) / 4

/** int32 words of a rank's line. */
export const GENERATION = 0
export const SEQUENCE = 1
export const CODE = 2
export const COUNT_LOW = 3
export const COUNT_HIGH = 4
/** Where the sender's numbers are: 0 for memory of its own, else 1 + the shared region; and the byte in it. */
export const REGION = 5
export const OFFSET = 6
export const LAYOUT = 7

/** int32 words of a rank's state. */
export const LEFT = 0
export const FAILED = 1
export const VERDICT = 2
export const FILE = 3
export const REASON_LENGTH = 4

/** int32 words of an entry of the directory; and in the line of the sleepers, how many are taken. */
export const CHANNELS = SLEEPERS + 8
export const ENTRY_WORDS = 4
export const ENTRIES = 256

const RANKS = 3 * LINE
const RANK_BYTES = 1024
const REASON = 3 * LINE
export const REASON_BYTES = RANK_BYTES - REASON

/** The first int32 word of the line of `rank` for a sync of this generation. */
export function lineOf(rank: number, generation: number): number {
  return (RANKS + rank * RANK_BYTES + (generation & 1) * LINE) / 4
}

export function stateOf(rank: number): number {
  return (RANKS + rank * RANK_BYTES + 2 * LINE) / 4
}

export function reasonOf(rank: number): number {
  return RANKS + rank * RANK_BYTES + REASON
}

export function entryOf(size: number, index: number): number {
  return (RANKS + size * RANK_BYTES) / 4 + index * ENTRY_WORDS
}

export interface Layout {
  readonly size: number
  /** A multiple of PAGE. */
  readonly stageBytes: number
  readonly fileBytes: number
  readonly memoryBytes: number
}

export function layoutOf(size: number, stageBytes: number): Layout {
  const fileBytes = controlBytes(size) + 2 * size * stageBytes
  return { size, stageBytes, fileBytes, memoryBytes: fileBytes + stageBytes }
}

/** Of a file of this size. */
export function layoutIn(size: number, fileBytes: number): Layout {
  return layoutOf(size, (fileBytes - controlBytes(size)) / (2 * size))
}

export function stageOf({ size, stageBytes }: Layout, rank: number, parity: number): number {
  return controlBytes(size) + (2 * rank + parity) * stageBytes
}

export function scratchOf({ fileBytes }: Layout): number {
  return fileBytes
}

export function wholePages(bytes: number): number {
  return Math.ceil(bytes / PAGE) * PAGE
}

function controlBytes(size: number): number {
  return wholePages(RANKS + size * RANK_BYTES + ENTRIES * ENTRY_WORDS * 4)
}
