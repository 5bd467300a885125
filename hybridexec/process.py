"""How a worker's process is named: by its id, and by its machine if that is a node of a cluster."""

# Without `annotations` from `__future__`: a NamedTuple would compile each of its own, see
# tests/test_layers.py.
from typing import NamedTuple


def on_node(node: str) -> str:
    """Which machine, in words that follow those for what is there; empty if it is this one."""
    return f" on node {node}" if node else ""


class Process(NamedTuple):
    """A worker's process."""

    #: None if it is not known.
    pid: int | None
    #: The name of its machine; empty if that is this one.
    node: str = ""

    def __str__(self) -> str:
        return f"worker process {self.pid}{on_node(self.node)}"
