"""A backend for joblib: ``joblib.parallel_config(backend="hybridexec")``, once it is registered.

All calls of ``Parallel`` with the same arguments share an executor, whose workers end when there
have been no calls for ``idle_worker_timeout`` seconds (300, if that is not given). It is not the
one of :func:`.get_reusable_executor`, so neither replaces the other's. One that other arguments
have replaced goes on for as long as a ``Parallel`` uses it.

``n_jobs`` is the number of workers. Each runs one batch at a time, as with joblib's other backends,
unless ``concurrency=`` says how many: that is for functions that wait, and then each call is a
batch of its own. Other keyword arguments are :class:`.HybridExecutor`'s. joblib's memory maps for
large arrays, and its arguments about them, are not used: arrays travel through shared memory.
"""

from __future__ import annotations

from . import need


def register(*, make_default: bool = False) -> None:
    """Make the backend known to joblib, as ``"hybridexec"``.

    Args:
        make_default: whether ``Parallel`` uses it where no backend is named.

    Raises:
        ImportError: joblib or threadpoolctl is missing (``pip install 'hybridexec[joblib]'``).
    """
    need.joblib("hybridexec.joblib.register()")
    import joblib

    from .joblib_backend import HybridBackend

    joblib.register_parallel_backend("hybridexec", HybridBackend, make_default=make_default)
