/** Cuts memory into pieces of a size that can be hashed and written at once. Copies nothing. */

export const PIECE_BYTES = 16 * 2 ** 20 // the event loop breathes between pieces

export function* piecesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Generator<Uint8Array> {
  for (let at = 0; at < byteLength; at += PIECE_BYTES) {
    yield new Uint8Array(buffer, byteOffset + at, Math.min(PIECE_BYTES, byteLength - at))
  }
}
