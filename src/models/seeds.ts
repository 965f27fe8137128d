/** Reproducible initial weights: TensorFlow.js draws unseeded initialisers from Math.random. */
import { initializers } from '@tensorflow/tfjs-layers'

/** A source of seeded Glorot-uniform initialisers (Glorot & Bengio 2010), each with a seed of its own. */
export function glorotFrom(seed: number): () => ReturnType<typeof initializers.glorotUniform> {
  let next = seed * 1000
  return () => initializers.glorotUniform({ seed: ++next })
}
