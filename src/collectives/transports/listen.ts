/**
 * The transports that have addresses, by name: a new one is a row here.
 */
import type { Mesh, MeshOptions, TransportKind } from './mesh.js'
import { TcpMesh } from './tcp-mesh.js'

const LISTEN: Readonly<Record<TransportKind, (options: MeshOptions) => Promise<Mesh>>> = {
  tcp: (options) => TcpMesh.listen(options),
}

export function listen(kind: TransportKind, options: MeshOptions): Promise<Mesh> {
  return LISTEN[kind](options)
}
