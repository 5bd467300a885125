"""Imports run one way: executor → parent → wire, and worker → wire; within the parent's half, from
room to room: client → engine → pool and launch → work. What only one kind of worker has is in a
room of its own, which the rest of the worker enters by its doors only. What shows an executor gets
what it shows from the front, and imports neither half.

A worker that imported the parent's half would start slowly; a parent that imported gevent would
no longer be plain Python. Imports inside functions count, too; those for type checkers only do not.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from imports import imports, modules

PACKAGE = Path(__file__).resolve().parents[1] / "hybridexec"

#: Modules at the bottom: everyone may use them, they use nothing but each other.
BOTTOM = {"base", "checks", "drivers", "errors", "events", "frontier", "limits", "native", "need"}
BOTTOM |= {"options", "outcomes", "progress", "retry_after", "settings", "stats", "styles"}
BOTTOM |= {"process", "shared_state"}
#: What each layer may import. Top-level modules that are not at the bottom are the front.
MAY_IMPORT = {
    "cluster": {"cluster", "front", "parent", "wire", "bottom"},
    "front": {"front", "watching", "parent", "wire", "bottom"},
    "watching": {"watching", "bottom"},
    "parent": {"parent", "wire", "bottom"},
    "worker": {"worker", "wire", "bottom"},
    "wire": {"wire", "bottom"},
    "bottom": {"bottom"},
}
#: What each room of the parent's half may import of the others, by the names of its packages and of
#: the modules beside them.
MAY_ENTER = {
    "assembly": {"client", "engine", "pool", "launch", "lifecycle"},
    "client": {"engine", "work", "lifecycle"},
    "engine": {"pool", "launch", "work", "lifecycle"},
    "pool": {"work"},
    "launch": {"work", "lifecycle"},
    "work": set(),
    "lifecycle": set(),
}
#: What a room keeps out: the pool decides, and neither does nor waits for anything.
KEPT_OUT = {
    "pool": {"_thread", "multiprocessing", "os", "select", "selectors", "socket", "subprocess"}
    | {"threading", "time", "hybridexec.native"},
}
#: Rooms of the worker, each for a kind of worker.
KINDS = {"greenlets", "tasks", "threads"}
#: Who of the worker's shared half may enter these rooms, and by which doors: what puts a worker
#: together. All else knows a lane by its contract only.
DOORS = {"kinds": {"lane", "patching"}}
#: Packages that only one place may import.
HOME = {"gevent": "worker.greenlets", "greenlet": "worker.greenlets", "distributed": "cluster.dask"}
#: The layers that are packages.
LAYERS = {"cluster", "watching", "parent", "worker", "wire"}


def layer_of(module: str) -> str:
    """The layer of a dotted name inside the package, `hybridexec` itself included."""
    first = module.split(".")[1:2]
    if not first:
        return "front"
    if first[0] in BOTTOM:
        return "bottom"
    return first[0] if first[0] in LAYERS else "front"


def room_of(module: str) -> str | None:
    """The room of the parent's half that a module is in, or is."""
    parts = module.split(".")
    return parts[2] if parts[1:2] == ["parent"] and len(parts) > 2 else None


def kind_of(module: str) -> str | None:
    """The kind of worker that a module is for; None if for all, or for no worker."""
    parts = module.split(".")
    return parts[2] if parts[1:2] == ["worker"] and KINDS.intersection(parts[2:3]) else None


def violations(package: Path) -> list[str]:
    found = []
    for where, module, target in imports(package):
        layer, room, root = layer_of(module), room_of(module), target.split(".")[0]
        if root in HOME and not f"{module}.".startswith(f"{package.name}.{HOME[root]}."):
            found.append(f"{where}: only hybridexec.{HOME[root]} may import {root}")
        elif root == package.name and layer_of(target) not in MAY_IMPORT[layer]:
            found.append(f"{where}: {layer} may not import {layer_of(target)} ({target})")
        elif layer == "worker" and kind_of(target) not in {None, kind_of(module)}:
            doors = DOORS.get(module.split(".")[-1], set()) if kind_of(module) is None else set()
            if target.split(".")[-1] not in doors:
                found.append(f"{where}: {module} may not enter {kind_of(target)} ({target})")
        elif room is not None:
            entered = room_of(target) if root == package.name else None
            if entered not in {None, room, *MAY_ENTER[room]}:
                found.append(f"{where}: {room} may not import {entered} ({target})")
            if not KEPT_OUT.get(room, set()).isdisjoint({root, target}):
                found.append(f"{where}: {room} may not import {target}")
    return found


def test_imports_run_one_way() -> None:
    assert {layer_of(module) for module in modules(PACKAGE)} == set(MAY_IMPORT), "a layer is gone"
    assert {room_of(module) for module in modules(PACKAGE)} - {None} == set(MAY_ENTER)
    assert {kind_of(module) for module in modules(PACKAGE)} - {None} == KINDS
    assert not violations(PACKAGE)


PLANTED = [
    ("parent/pool/pool.py", "from hybridexec.worker import hub", "parent may not import worker"),
    ("parent/pool/pool.py", "from ...worker.hub import Hub", "parent may not import worker"),
    ("parent/pool/pool.py", "from ... import worker", "parent may not import worker"),
    ("parent/__init__.py", "from ..worker import hub", "parent may not import worker"),
    ("parent/pool/pool.py", "import hybridexec", "parent may not import front"),
    ("worker/hub.py", "def f():\n    import hybridexec.parent.pool", "worker may not"),
    ("worker/hub.py", "from hybridexec import HybridExecutor", "worker may not import front"),
    ("wire/frames.py", "try:\n    from ..parent import p\nfinally: pass", "wire may not"),
    ("wire/frames.py", "if TYPE_CHECKING: pass\nelse:\n    from ..worker import hub", "wire may"),
    ("errors.py", "from .wire import frames", "bottom may not import wire"),
    ("executor.py", "from .worker import hub", "front may not import worker"),
    ("executor.py", "import_module('hybridexec.worker.hub')", "front may not import worker"),
    (
        "parent/pool/pool.py",
        "importlib.import_module('...worker.hub', __package__)",
        "parent may not",
    ),
    ("parent/pool/pool.py", "if True:\n    from gevent import sleep", "only hybridexec.worker"),
    ("worker/hub.py", "import gevent", "only hybridexec.worker.greenlets may import gevent"),
    ("worker/hub.py", "from .greenlets.lane import x", "may not enter greenlets"),
    ("worker/kinds.py", "from .greenlets import runners", "may not enter greenlets"),
    ("worker/main.py", "from .greenlets import lane", "may not enter greenlets"),
    ("worker/boot.py", "def f():\n    from . import greenlets", "may not enter greenlets"),
    (
        "parent/pool/pool.py",
        "__import__('gevent.monkey')",
        "only hybridexec.worker.greenlets may import gevent",
    ),
    ("native.py", "import greenlet", "only hybridexec.worker.greenlets may import greenlet"),
    ("parent/work/batch.py", "from ..engine.engine import Engine", "work may not import engine"),
    ("parent/pool/pool.py", "from .. import launch", "pool may not import launch"),
    ("parent/pool/pool.py", "def f():\n    import time", "pool may not import time"),
    ("parent/pool/pool.py", "from os import path", "pool may not import os"),
    ("parent/pool/pool.py", "from ... import native", "pool may not import hybridexec.native"),
    ("parent/engine/engine.py", "from ..client import streams", "engine may not import client"),
    ("parent/launch/launcher.py", "from .. import assembly", "launch may not import assembly"),
    ("parent/lifecycle.py", "from .engine import engine", "lifecycle may not import engine"),
    ("watching/view.py", "from ..parent.engine import x", "watching may not import parent"),
    ("parent/engine/engine.py", "from ...watching import view", "parent may not import watching"),
]
ALLOWED = [
    (
        "parent/engine/engine.py",
        "import time\nfrom .. import lifecycle\nfrom ..pool.pool import Pool",
    ),
    ("parent/assembly.py", "from .client import streams\nfrom .engine.engine import Engine"),
    ("executor.py", "from .parent import pool\nfrom . import errors"),
    ("parent/pool/pool.py", "from ...wire.frames import x\nfrom ..work import batch"),
    ("worker/hub.py", "from ..wire import frames\nfrom ..errors import WorkerLost"),
    ("worker/greenlets/lane.py", "import gevent\nfrom ..hub import x\nfrom . import runners"),
    ("worker/kinds.py", "from .greenlets import lane"),
    ("parent/pool/pool.py", "if typing.TYPE_CHECKING:\n    from ...worker.hub import Hub"),
    ("wire/frames.py", "if TYPE_CHECKING:\n    import gevent"),
    ("errors.py", "from . import options"),
    ("executor.py", "def f():\n    from .watching import view"),
    ("watching/view.py", "if TYPE_CHECKING:\n    from ..parent.engine import x"),
]


ROOMS = {
    "client": "streams",
    "engine": "engine",
    "pool": "pool",
    "launch": "launcher",
    "work": "batch",
}


@pytest.fixture
def small_package(tmp_path: Path) -> Path:
    package = tmp_path / "hybridexec"
    rooms = [f"parent/{room}/{module}" for room, module in ROOMS.items()]
    names = ["errors", "native", "options", "executor", "wire/frames", *rooms]
    names += ["worker/main", "worker/boot", "worker/hub", "worker/kinds"]
    names += ["worker/greenlets/lane", "worker/greenlets/runners"]
    names += ["parent/assembly", "parent/lifecycle", "watching/view"]
    for name in names:
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        (path.parent / "__init__.py").touch()
    (package / "parent/__init__.py").touch()
    return package


@pytest.mark.parametrize(("path", "code", "complaint"), PLANTED)
def test_a_violation_is_found(small_package: Path, path: str, code: str, complaint: str) -> None:
    (small_package / path).write_text(code)
    (found,) = violations(small_package)
    assert complaint in found


@pytest.mark.parametrize(("path", "code"), ALLOWED)
def test_what_is_allowed_passes(small_package: Path, path: str, code: str) -> None:
    (small_package / path).write_text(code)
    assert not violations(small_package)


def test_unit_tests_are_named_after_what_they_test() -> None:
    unit = Path(__file__).parent / "unit"
    modules = {
        path.relative_to(half).with_suffix("")
        for half in (PACKAGE, PACKAGE / "parent")
        for path in half.rglob("*.py")
    }
    tests = [path.relative_to(unit) for path in unit.rglob("test_*.py")]
    assert len(tests) > 30
    for test in tests:
        # A long one is cut along its subjects: test_module_subject.py.
        words = test.stem.split("_")[1:]
        names = {"_".join(words[:count]) for count in range(1, len(words) + 1)}
        assert any(test.with_name(name) in modules for name in names), test


def loaded_by(code: str) -> set[str]:
    """The modules a fresh interpreter has after `code`."""
    program = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        # With -c, Python looks in the current directory first: this package, not an installed one.
        [sys.executable, "-c", program],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_package_is_light() -> None:
    loaded = loaded_by("import hybridexec")
    heavy = {
        "gevent",
        "greenlet",
        "multiprocessing",
        "asyncio",
        "cloudpickle",
        "importlib.metadata",
    }
    assert not loaded & heavy


def test_importing_the_class_loads_its_base_and_little_more() -> None:
    loaded = loaded_by("from hybridexec import HybridExecutor")
    assert "concurrent.futures.process" in loaded
    heavy = {
        "gevent",
        "greenlet",
        "asyncio",
        "cloudpickle",
        "dataclasses",
        "multiprocessing.synchronize",
    }
    assert not loaded & heavy
    assert not [
        name for name in loaded if name.startswith(("hybridexec.parent", "hybridexec.watching"))
    ]


#: Modules without bytecode are compiled, too, but under the name of a file.
REFUSE_TEXT = """
import builtins
real = builtins.compile

def compile(source, name, *rest, **named):
    assert name != "<string>", source
    return real(source, name, *rest, **named)

builtins.compile = compile
"""


def test_the_worker_side_compiles_nothing() -> None:
    # Python's first compile() takes a millisecond, for which the first result would wait. A
    # NamedTuple calls it for each annotation that is a string.
    assert "hybridexec.worker.main" in loaded_by(f"{REFUSE_TEXT}\nimport hybridexec.worker.main")


def test_the_worker_side_does_without_what_callers_say() -> None:
    # A worker is told how to run a call in a tuple; what checks and makes options would be a
    # millisecond more of its start.
    rooms = ("main", "greenlets.lane", "tasks.lane", "threads.lane")
    loaded = loaded_by("\n".join(f"import hybridexec.worker.{name}" for name in rooms))
    assert not loaded & {f"hybridexec.{name}" for name in ("options", "checks", "styles")}


def test_the_worker_side_loads_gevent_for_its_own_kind_only() -> None:
    shared = [name for name in modules(PACKAGE) if layer_of(name) == "worker" and not kind_of(name)]
    loaded = loaded_by("\n".join(f"import {name}" for name in shared))
    assert set(shared) <= loaded
    assert not [name for name in loaded if name.startswith(("gevent", "greenlet"))]
    assert not [name for name in loaded if kind_of(name)]


def test_the_parent_side_loads_no_gevent_and_no_worker() -> None:
    outside_worker = [name for name in modules(PACKAGE) if layer_of(name) != "worker"]
    loaded = loaded_by("\n".join(f"import {name}" for name in outside_worker))
    assert set(outside_worker) <= loaded
    assert not [name for name in loaded if name.startswith(("gevent", "greenlet"))]
    assert not [name for name in loaded if name.startswith("hybridexec.worker")]
