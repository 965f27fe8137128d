/** Loaded before a training script: every rank prints the SHA-256 of its parameters before it lets go of them. */
import { Ddp } from '../../src/runtime/ddp.js'

const { release } = Ddp.prototype

Ddp.prototype.release = function (this: Ddp) {
  console.log(`parameters ${this.paramsSha256()}`)
  return release.call(this)
}
