"""The class behind :mod:`hybridexec.joblib`.

Thread: joblib's callers'; what joblib does when a batch has ended, taking the next items from the
caller's iterable included, runs on the executor's I/O thread, as futures' callbacks do.
Guarantees: what ends or replaces an executor ends no batch of others that use it.
"""

from __future__ import annotations

import multiprocessing
import os
import warnings
from typing import TYPE_CHECKING, Any

import joblib
from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from .executor import HybridExecutor
from .reusable import Kept

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

#: joblib's arguments about memory maps, and one that it uses itself.
_UNUSED = frozenset({"context", "max_nbytes", "mmap_mode", "temp_folder", "verbose"})

_kept = Kept()


class HybridBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # untyped
    """Runs joblib's batches in a :class:`.HybridExecutor`.

    ``n_jobs`` is the number of workers. Each runs one batch at a time, as joblib's other backends
    do, unless ``concurrency`` says how many: for functions that wait. Other keyword arguments are
    the executor's.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._executor: HybridExecutor | None = None
        self._concurrency: int = self.backend_kwargs.get("concurrency", 1)
        #: Those that have not ended.
        self._futures: set[Future[Any]] = set()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many batches run at once."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if multiprocessing.current_process().daemon:
            if n_jobs != 1:
                warnings.warn(
                    "a daemonic process cannot have workers: n_jobs=1", RuntimeWarning, stacklevel=3
                )
            return 1
        return _workers(n_jobs) * self._concurrency

    def configure(
        self,
        n_jobs: int | None = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        idle_worker_timeout: float | None = None,
        **arguments: Any,
    ) -> int:
        """Have an executor; returns how many batches run at once."""
        arguments = {
            **self.backend_kwargs,
            **{name: value for name, value in arguments.items() if name not in _UNUSED},
        }
        self._concurrency = arguments.setdefault("concurrency", 1)
        at_once = self.effective_n_jobs(n_jobs)
        if at_once == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        seconds = arguments.pop("idle_worker_timeout", 300)
        if idle_worker_timeout is not None:
            seconds = idle_worker_timeout
        workers = _workers(n_jobs)
        if "threadpool_limits" not in arguments:
            arguments["threadpool_limits"] = self._threads_in_each(workers)
        # What it replaces is not shut down: another thread's Parallel may use it. It ends when
        # nobody does.
        self._executor, _ = _kept.replace(
            HybridExecutor(workers, idle_timeout=seconds, **arguments)
        )
        self.parallel = parallel
        return at_once

    def _threads_in_each(self, workers: int) -> int | None:
        """How many threads BLAS and OpenMP may use in a worker; None if the environment says so."""
        if self.inner_max_num_threads is not None:
            return int(self.inner_max_num_threads)
        if any(name in os.environ for name in self.MAX_NUM_THREADS_VARS):
            return None
        return max(1, int(joblib.cpu_count()) // workers)

    def compute_batch_size(self) -> int:
        """How many calls are a batch, and run one after another: where calls run at once, one."""
        return int(super().compute_batch_size()) if self._concurrency == 1 else 1

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Future[Any]], Any] | None = None
    ) -> Future[Any]:
        """Run a batch."""
        if self._executor is None:
            raise RuntimeError("this call of Parallel has ended")
        future = self._executor.submit(func)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """The result of a batch that has ended."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel all batches of this backend, running ones too; others' calls in the same workers
        go on."""
        for future in list(self._futures):
            future.cancel()

    def terminate(self) -> None:
        """Let go of the executor, which stays for the next ``Parallel``."""
        self._executor = None
        self.reset_batch_stats()


def _workers(n_jobs: int | None) -> int:
    """joblib's meaning: from -1 down, so many less than there are CPUs, and one more."""
    if n_jobs is None:
        return 1
    return n_jobs if n_jobs > 0 else max(int(joblib.cpu_count()) + 1 + n_jobs, 1)
