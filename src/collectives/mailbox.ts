/**
 * What one peer sends on one channel: data go straight to whoever waits for them, and are kept, up to the window,
 * while nobody does. It refuses to judge what a frame says: its judge does.
 */
import { LockstepError } from '../errors.js'
import { BLOCK_BYTES, type Frame, HEADER_BYTES, WINDOW_BYTES } from './wire/frame.js'

/** Who knows what is right on this channel. */
export interface Judge {
  /** A data frame's header is there, or its turn has come. False: its sender is not to be listened to any more. */
  announced(frame: Frame): boolean
  /** A data frame of another length than `expected` came where one was waited for. */
  mismatched(frame: Frame, expected: number): void
  /** A frame of this many bytes, header included, has been taken: the sender may send as many more. */
  taken(bytes: number): void
}

/** A frame whose payload is arriving. */
export interface Reading {
  readonly frame: Frame
  target: Uint8Array
  filled: number
  /** The target is where somebody waits for the payload: it may be read into without a copy. */
  readonly direct: boolean
}

/** Who waits for the payloads of the next data frames: where each goes, and what to do once it is there. */
interface Waiter {
  readonly targets: readonly Uint8Array[]
  at: number
  readonly arrived: (index: number) => void
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

interface EarlyFrame {
  readonly frame: Frame
  readonly payload: Uint8Array
}

export class Mailbox {
  /** None yet: a peer uses a channel that this rank has not opened so far. */
  judge: Judge | undefined
  #reading: Reading | undefined
  #waiter: Waiter | undefined
  #early: EarlyFrame[] = []
  #earlyBytes = 0
  #spare: ArrayBuffer[] = []
  #failed = false

  get waiting(): boolean {
    return this.#waiter !== undefined
  }

  /** The first data frame that nobody has taken yet, whole or not. */
  get next(): Frame | undefined {
    return this.#early[0]?.frame ?? (this.#waiter ? undefined : this.#reading?.frame)
  }

  /** A frame's header is there. Undefined: its payload is of no interest any more. @throws LockstepError above the window. */
  begin(frame: Frame): Reading | undefined {
    if (this.#failed || this.judge?.announced(frame) === false) return undefined
    const into = this.#waiter?.targets[this.#waiter.at]
    if (into && !this.#fits(frame, into)) return undefined
    if (!into && this.#earlyBytes > WINDOW_BYTES) {
      throw new LockstepError(`it exceeds the window of ${WINDOW_BYTES} bytes`)
    }
    const target = into ?? this.#block(frame.length)
    this.#reading = { frame, target, filled: 0, direct: into !== undefined }
    return this.#reading
  }

  /** The payload of what `begin` returned is whole. */
  end({ frame, target }: Reading): void {
    this.#reading = undefined
    if (this.#failed) return
    if (this.#waiter) {
      this.#hand(this.#waiter, frame)
      return
    }
    this.#early.push({ frame, payload: target })
    this.#earlyBytes += HEADER_BYTES + frame.length
  }

  /**
   * Takes one data frame for each of `targets`, exactly as long as it, and calls `arrived` with its index as soon as its
   * payload is there. Settles after the last. One promise for all: blocks follow each other in the same delivery.
   */
  receive(targets: readonly Uint8Array[], arrived: (index: number) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiter = { targets, at: 0, arrived, resolve, reject }
      for (let early = this.#early.shift(); early; early = this.#waiter && this.#early.shift()) {
        this.#takeEarly(early, this.#waiter)
      }
      if (this.#waiter && this.#reading) this.#takeOver(this.#reading, this.#waiter)
    })
  }

  /** Whoever waits gets `error`, and nothing is kept any more. */
  fail(error: Error): void {
    this.#failed = true
    this.#waiter?.reject(error)
    this.#waiter = undefined
    this.#early = []
    this.#earlyBytes = 0
    this.#spare = []
  }

  #takeEarly({ frame, payload }: EarlyFrame, waiter: Waiter): void {
    this.#earlyBytes -= HEADER_BYTES + frame.length
    const into = waiter.targets[waiter.at]!
    if (!this.judge!.announced(frame) || !this.#fits(frame, into)) return
    into.set(payload)
    this.#release(payload)
    this.#hand(waiter, frame)
  }

  /** The frame has begun to arrive: its first bytes move over, the rest will come directly. */
  #takeOver(reading: Reading, waiter: Waiter): void {
    const into = waiter.targets[waiter.at]!
    if (!this.judge!.announced(reading.frame) || !this.#fits(reading.frame, into)) return
    into.set(reading.target.subarray(0, reading.filled))
    this.#release(reading.target)
    reading.target = into
  }

  #fits(frame: Frame, into: Uint8Array): boolean {
    if (frame.length === into.length) return true
    this.judge!.mismatched(frame, into.length)
    return false
  }

  #hand(waiter: Waiter, frame: Frame): void {
    const index = waiter.at++
    const last = waiter.at === waiter.targets.length
    if (last) this.#waiter = undefined
    this.judge!.taken(HEADER_BYTES + frame.length)
    waiter.arrived(index)
    if (last) waiter.resolve()
  }

  /** Memory for a payload that comes early; blocks are used again. */
  #block(length: number): Uint8Array {
    if (length < BLOCK_BYTES / 8) return new Uint8Array(length)
    return new Uint8Array(this.#spare.pop() ?? new ArrayBuffer(BLOCK_BYTES), 0, length)
  }

  #release(block: Uint8Array): void {
    const whole = block.buffer.byteLength === BLOCK_BYTES
    if (whole && this.#spare.length < 3) this.#spare.push(block.buffer as ArrayBuffer)
  }
}
