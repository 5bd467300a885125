"""The same executor on the machines of a Dask cluster: ``ClusterExecutor``.

The engine, the pool and the futures are those of ``HybridExecutor``. What is here is the way from
them to workers on other machines (*nodes*): in the client, a link for each worker
(:mod:`.link`) over a connection for each node (:mod:`.nodes`); on the node, an agent inside a Dask
worker (:mod:`.agent`), which starts workers and passes on bytes. Dask distributed is used for
membership, connections and TLS, in :mod:`.dask` only.
"""

from __future__ import annotations

from .. import need

need.distributed("hybridexec.cluster")

from .executor import ClusterExecutor  # noqa: E402  # what it imports is known to be there

__all__ = ["ClusterExecutor"]
