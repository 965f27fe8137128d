/**
 * Unix-domain sockets, for ranks of one host that cannot share memory: half of what TCP costs the system there. A socket is a
 * file in a directory of its own, which nobody else may enter and which is gone as soon as all ranks have connected.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Receiving, Sending } from './link.js'
import type { Address } from './mesh.js'
import { TcpDoor } from './tcp.js'

export class UnixDoor extends TcpDoor {
  #directory: string | undefined

  override async open(_host: string, come: (sending: Sending) => void): Promise<Address> {
    this.#directory = mkdtempSync(join(tmpdir(), 'lockstep-')) // mode 0700
    const path = join(this.#directory, 'rank')
    await this.listen({ path }, come)
    return { host: path, port: 0 }
  }

  override dial({ host }: Address): Promise<Receiving> {
    return this.connect({ path: host })
  }

  override close(): void {
    super.close()
    if (this.#directory !== undefined) rmSync(this.#directory, { recursive: true, force: true })
  }
}
