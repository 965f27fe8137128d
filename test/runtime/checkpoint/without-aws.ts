/** Says what saving to S3 answers where AWS's package is not installed: this process cannot find it. */
import { register } from 'node:module'
import { writeCheckpoint } from '../../../src/runtime/checkpoint/checkpoints.js'

const hook = `export async function resolve(name, context, next) {
  return next(name.replace('@aws-sdk/client-s3', '@aws-sdk/absent'), context)
}`
register(`data:text/javascript,${encodeURIComponent(hook)}`)

await writeCheckpoint('s3://training', { step: 1, model: [], optimizer: [], state: {} }).catch((error) =>
  console.log(`${error.name}: ${error.message}`),
)
