/**
 * Writes docs/support.md from the compiler's own table of ops: what is listed there is what a trace accepts.
 * Run it after adding an op: npm run docs:support. A test fails when the committed page is out of date.
 */
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import * as tf from '@tensorflow/tfjs-core'
// Registers TensorFlow.js' gradient functions, which tfjs-core leaves out.
import '@tensorflow/tfjs-layers'
import { hasOwnGradient } from '../src/compiler/gradients/index.js'
import { kernelNames, opFor } from '../src/compiler/ops/index.js'

export const SUPPORT_PAGE = fileURLToPath(new URL('../docs/support.md', import.meta.url))

/** Kernels whose gradient is written in the op that calls them, not registered under their names. */
const gradientInOp: readonly string[] = ['FusedConv2D', 'FusedDepthwiseConv2D', '_FusedMatMul']

const INTRODUCTION = `# TensorFlow.js ops that the compiler covers

<!-- Made from the table of ops by: npm run docs:support -->

A model is recorded as a graph of TensorFlow.js *kernels*: \`tf.relu\` calls \`Relu\`, \`tf.matMul\` calls \`BatchMatMul\`,
and the gradient of \`tf.conv2d\` calls \`Conv2DBackpropInput\` and \`Conv2DBackpropFilter\`. Any layer, loss or function
trains that calls only the kernels below; anything else is an error that names the kernel and the layer.

- **dtypes**: those of the tensors that it takes; \`tf.cast\` changes others.
- **gradient**: yes, when TensorFlow.js has one; *own*, when the compiler brings one that TensorFlow.js lacks, and
  *own, corrected*, when it replaces one that TensorFlow.js refuses or gets wrong for some shapes or attributes (dilated
  convolutions, broadcast matrix products, running sums over any axis, mirrored padding). Without one, an op may stand
  in the forward pass where no trainable variable comes before it, and in evaluation and prediction anywhere.

Not taken, each with an error of its own: \`dataFormat: 'NCHW'\` in \`tf.conv2d\` (layers with \`channelsFirst\` are),
the fused activation \`prelu\`, more than one batch dimension in \`tf.gather\`, and gradients of
\`dimRoundingMode: 'ceil'\`, which TensorFlow.js itself does not have.

All layers of TensorFlow.js are covered but \`centerCrop\` (\`cropping2D\` does the same), \`categoryEncoding\` and
\`randomWidth\`, which read values in JavaScript, and \`resizing\`, which fails in TensorFlow.js itself; a recurrent layer
must not be stateful.

Random numbers come from layers that are redrawn at every step: dropout, spatial, Gaussian and alpha dropout, Gaussian
noise, and the dropout inside of recurrent cells. Others are an error, but for one case that cannot be told from a constant: numbers drawn from a fixed seed inside a model or loss function
(\`tf.dropout(x, rate, noiseShape, seed)\`, \`tf.randomNormal(…, seed)\`) are the same at every step.

`

/** The page, as text. */
export function supportPage(): string {
  const names = kernelNames()
    .filter((name) => !name.startsWith('Lockstep'))
    .sort()
  const rows = names.flatMap((name) => {
    const op = opFor(name)
    if (op === undefined) return []
    return [`| ${name} | ${op.dtypes?.join(', ') ?? 'all'} | ${gradientOf(name)} |`]
  })
  const uncovered = names.filter((name) => opFor(name) === undefined)
  return `${INTRODUCTION}## Covered: ${rows.length} kernels

| kernel | dtypes | gradient |
|---|---|---|
${rows.join('\n')}

## Not covered: ${uncovered.length} kernels

(\`tf.broadcastTo\`, \`tf.logicalXor\`, \`tf.pool\` and \`tf.linalg.bandPart\` are covered: they call other
kernels than the ones of their names.)

${uncovered.join(', ')}
`
}

function gradientOf(kernel: string): string {
  if (hasOwnGradient(kernel)) return tf.getGradient(kernel) ? 'own, corrected' : 'own'
  return gradientInOp.includes(kernel) || tf.getGradient(kernel) ? 'yes' : 'no'
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(SUPPORT_PAGE, supportPage())
