"""A plugin for pytest that has joblib's own tests of its backend "loky" run ours.

Only tests that take the backend's name are run, and of these only those that take this one: the
others would not run ours.
"""

from __future__ import annotations

import joblib
import pytest

from hybridexec.joblib_backend import HybridBackend

MEMMAP = "looks at joblib's memory maps: arrays travel through shared memory, unchanged"
ELSEWHERE = "runs a program, in which the name is loky's own"
LOKYS = "expects the class LokyBackend by its name"
#: Tests that are not for us, by name, or by name and parameters, and why.
EXCLUDED = {
    "test_auto_memmap_on_arrays_from_generator": MEMMAP,
    "test_memmapping_leaks": MEMMAP,
    "test_backend_context_manager": LOKYS,
    "test_nested_parallelism_limit": LOKYS,
    "test_parallel_with_interactively_defined_functions": ELSEWHERE,
    "test_parallel_with_unpicklable_functions_in_args": ELSEWHERE,
    "test_error_capture": "expects other workers after an error: ours live on",
    "test_nested_exception_dispatch": "is marked as one that loky fails; it passes here",
    "test_nested_parallel_warnings[loky-loky-False]": "in the worker, the name is loky's own",
    "test_nested_parallel_warnings[multiprocessing-loky-True]": "expects a warning in loky's words",
    "test_nested_parallel_warnings[threading-loky-True]": (
        "expects a warning that threads cannot nest it: here they can"
    ),
    "test_multiple_generator_call_separated_gc": (
        "expects that a generator's end ends the workers of the next: here they live on"
    ),
}


def pytest_configure(config: pytest.Config) -> None:
    for name in ("thread_unsafe", "no_cover"):
        config.addinivalue_line("markers", f"{name}: joblib's own")
    joblib.register_parallel_backend("loky", HybridBackend)


def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    chosen = [item for item in items if _is_ours(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def _is_ours(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    if callspec is None or "loky" not in callspec.params.values():
        return False
    return EXCLUDED.keys().isdisjoint({item.name, item.name.partition("[")[0]})
