"""Modules that are loaded when they are first looked at, in a process that gets patched."""

from __future__ import annotations

from pathlib import Path

import pytest

from .helpers import run_script

pytestmark = pytest.mark.slow_on("spawn")

#: As kedro and others postpone imports.
LAZY = """
import importlib.util, multiprocessing, sys
import http

def lazy(name):
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    loader = spec.loader = importlib.util.LazyLoader(spec.loader)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
    loader.exec_module(module)

for name in sys.argv[2:]:
    lazy(name)

from hybridexec import HybridExecutor

def look():
    import http.client, queue, socket, ssl, subprocess, gevent.socket, gevent.ssl, gevent.subprocess

    return (
        http.client.HTTPConnection.__name__,
        socket.socket is gevent.socket.socket,
        ssl.SSLContext is gevent.ssl.SSLContext,
        subprocess.Popen is gevent.subprocess.Popen,
        subprocess.run(["echo", "done"], capture_output=True).stdout,
    )

if __name__ == "__main__":
    with HybridExecutor(1, multiprocessing.get_context(sys.argv[1])) as executor:
        print(executor.submit(look).result())
"""


@pytest.mark.parametrize(
    "modules",
    ["http.client", "ssl", "socket", "subprocess", "queue asyncio selectors threading"],
)
def test_lazily_loaded_modules_are_patched_all_the_same(
    tmp_path: Path, method: str, modules: str
) -> None:
    out = run_script(tmp_path / "script.py", LAZY, method, *modules.split())
    assert out.stdout == "('HTTPConnection', True, True, True, b'done\\n')\n"


#: In a pool's own terms, as kedro's ParallelRunner does it.
RUNNER = """
import importlib.util, sys
import http

class LazyFinder:
    # As demandimport and the like: everything under some names is loaded when it is looked at.
    def find_spec(self, name, path=None, target=None):
        if not name.startswith(("http.", "urllib", "email", "ssl")):
            return None
        for finder in sys.meta_path:
            if finder is not self:
                spec = finder.find_spec(name, path, target)
                if spec is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = importlib.util.LazyLoader(spec.loader)
                return spec

sys.meta_path.insert(0, LazyFinder())
import http.client, urllib.request
from multiprocessing import get_context
from hybridexec import HybridExecutor

def fetch(n):
    return n, urllib.request.Request(f"http://localhost/{n}").selector

if __name__ == "__main__":
    context = get_context(sys.argv[1])
    with HybridExecutor(2, mp_context=context) as executor:
        print([future.result() for future in [executor.submit(fetch, n) for n in range(3)]])
"""


def test_an_import_hook_that_postpones_imports_breaks_nothing(tmp_path: Path, method: str) -> None:
    out = run_script(tmp_path / "script.py", RUNNER, method)
    assert out.stdout == "[(0, '/0'), (1, '/1'), (2, '/2')]\n"
