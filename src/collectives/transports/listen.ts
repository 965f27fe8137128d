/**
 * The transports that have addresses, by name: a new one is a row here.
 */
import type { Protection } from '../wire/tls.js'
import type { Door } from './link.js'
import { LinkMesh } from './link-mesh.js'
import type { Mesh, MeshOptions, TransportKind } from './mesh.js'
import { TcpDoor } from './tcp.js'
import { UnixDoor } from './unix.js'
import { WebSocketDoor } from './websocket.js'

const DOORS: Readonly<Record<TransportKind, (protection: Protection) => Door>> = {
  tcp: (protection) => new TcpDoor(protection),
  ws: (protection) => new WebSocketDoor(protection),
  // Does not leave the host.
  unix: ({ token }) => new UnixDoor({ token }),
}

/** @throws LockstepError when `options.host` is no address of this host. */
export function listen(kind: TransportKind, options: MeshOptions): Promise<Mesh> {
  return LinkMesh.listen(DOORS[kind](options), options)
}
