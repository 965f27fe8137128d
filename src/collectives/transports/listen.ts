/**
 * The transports that have addresses, by name: a new one is a row here.
 */
import type { Door } from './link.js'
import { LinkMesh } from './link-mesh.js'
import type { Mesh, MeshOptions, TransportKind } from './mesh.js'
import { TcpDoor } from './tcp.js'
import { UnixDoor } from './unix.js'
import { WebSocketDoor } from './websocket.js'

const DOORS: Readonly<Record<TransportKind, (options: MeshOptions) => Door>> = {
  tcp: (options) => new TcpDoor(options, options.streams),
  ws: (options) => new WebSocketDoor(options),
  // Does not leave the host.
  unix: ({ token, streams }) => new UnixDoor({ token }, streams),
}

/** @throws LockstepError when `options.host` is no address of this host. */
export function listen(kind: TransportKind, options: MeshOptions): Promise<Mesh> {
  return LinkMesh.listen(DOORS[kind](options), options)
}
