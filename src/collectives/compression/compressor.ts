/**
 * What a compressor is: a way for ranks to sum tensors with fewer bytes on the wire than an all-reduce sends. It knows
 * tensors' shapes, no model and no optimizer.
 */
import type { Communicator } from '../communicator.js'

export interface TensorShape {
  readonly name: string
  readonly shape: readonly number[]
}

export interface Compressor {
  /** As a user writes it, e.g. `topk:0.01`; equal on all ranks. */
  readonly name: string
  /** For tensors that travel together, over `size` ranks. */
  create(tensors: readonly TensorShape[], size: number): CompressedSum
}

/** The sum of one group of tensors, step after step, with what is remembered from one to the next. */
export interface CompressedSum {
  /** Error feedback and the like, this rank's own: part of its checkpoint. */
  readonly state: Readonly<Record<string, Float32Array>>
  /**
   * Replaces every tensor by (nearly) its sum over all ranks, the same bits on all of them. All ranks must call it
   * together, with finite numbers.
   */
  sum(links: Communicator, tensors: readonly Float32Array[], moment: Moment): Promise<void>
  /** Puts `state` back as it was before the latest sum; without it the caller has to copy that before. */
  undo?(): void
}

export interface Moment {
  /** 1 at the first sum of a training run. */
  readonly step: number
  /** Samples of this rank that its gradients are sums over. */
  readonly samples: number
}

export const sizeOf = ({ shape }: TensorShape): number => shape.reduce((size, length) => size * length, 1)

export const totalOf = (tensors: readonly TensorShape[]): number =>
  tensors.reduce((total, tensor) => total + sizeOf(tensor), 0)

/** Copies tensors into `flat`, one behind the other. */
export function pack(flat: Float32Array, tensors: readonly Float32Array[]): void {
  let at = 0
  for (const tensor of tensors) {
    flat.set(tensor, at)
    at += tensor.length
  }
}

/** The way back. */
export function unpack(tensors: readonly Float32Array[], flat: Float32Array): void {
  let at = 0
  for (const tensor of tensors) {
    tensor.set(flat.subarray(at, at + tensor.length))
    at += tensor.length
  }
}
