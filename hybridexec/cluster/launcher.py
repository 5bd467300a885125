"""Starts workers on nodes. See :class:`hybridexec.parent.engine.link.Launcher`."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from .. import native
from ..parent.launch.beginning import Beginning
from ..parent.launch.launcher import setups
from ..wire import log_tree
from ..wire.contract import Boot
from ..wire.wording import retell
from .link import RemoteLink
from .plan import Plan

if TYPE_CHECKING:
    from .nodes import Node, Nodes


class ClusterLauncher:
    """Starts the workers of one executor."""

    method = "cluster"
    executable = ""

    def __init__(
        self,
        nodes: Nodes,
        boot: Boot,
        slots: Mapping[str, int],
        beginning: Beginning,
        worker_logs: bool,
    ) -> None:
        self._nodes = nodes
        self._boot = boot
        self._slots = dict(slots)
        self._beginning = beginning
        self.worker_logs = worker_logs
        self._plan = b""
        self._planning = threading.Lock()

    def start(
        self, number: int, lane: str, pressed: Callable[[], bool] | None = None
    ) -> RemoteLink:
        """Start worker ``number``; returns when its process exists.

        Raises:
            Exception: what the initializer is given cannot be pickled; see also
                :meth:`.Nodes.start`.
        """
        with self._planning:
            if not self._plan:
                set_up = setups(self._beginning)
                plan = Plan(self._boot, self._slots, set_up, self.worker_logs)
                try:
                    self._plan = pickle.dumps(plan)
                except Exception as error:
                    what = "what workers are set up with, such as initargs, could not be pickled"
                    retell(error, what, "Locks, queues and pipes connect processes of one machine")
                    raise
        logging = pickle.dumps(log_tree.describe() if self.worker_logs else None)
        return self._nodes.start(number, lane, self._slots[lane], self._plan, logging)

    def connect(self, started: RemoteLink, poller: native.Poller, /) -> RemoteLink:
        """The link to what was started."""
        return started

    def give_up(self, lane: str) -> None:
        """No start in this lane is wanted any more."""
        self._nodes.give_up(lane)

    def nodes(self) -> list[Node]:
        """Those that there are."""
        return self._nodes.all

    def become_inert(self) -> None:
        """This process is a fork: the connections are its parent's."""

    def close(self) -> None:
        """All links have ended."""
        self._beginning.let_go()
        self._nodes.close()
