/**
 * The transports that have addresses, by name: a new one is a row here.
 */
import type { Door } from './link.js'
import { LinkMesh } from './link-mesh.js'
import type { Mesh, MeshOptions, TransportKind } from './mesh.js'
import { TcpDoor } from './tcp.js'
import { UnixDoor } from './unix.js'

const DOORS: Readonly<Record<TransportKind, (options: MeshOptions) => Door | Promise<Door>>> = {
  tcp: (options) => new TcpDoor(options, options.streams),
  // Loaded for those who need it: few do, and a rank and its thread would each wait for `ws` and Node's HTTP.
  ws: async (options) => new (await import('./websocket.js')).WebSocketDoor(options, options.streams),
  // Does not leave the host.
  unix: ({ token, streams }) => new UnixDoor({ token }, streams),
}

/** @throws LockstepError when `options.host` is no address of this host. */
export async function listen(kind: TransportKind, options: MeshOptions): Promise<Mesh> {
  return LinkMesh.listen(await DOORS[kind](options), options)
}
