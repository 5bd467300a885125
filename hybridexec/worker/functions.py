"""The functions that calls name by number, so that each is sent to a worker once.

Thread: whichever reads the call pipe learns and forgets them; calls load them.
Guarantees: a function is unpickled when a call first needs it, by one call at a time. A forgotten
one is not freed where it is forgotten, because that may run user code.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ..wire import payload
from ..wire.contract import PickledSetup
from .inbox import Job
from .session import Need, Session


class Functions:
    """The functions that the worker knows."""

    def __init__(self, loading: AbstractContextManager[Any]) -> None:
        """
        Args:
            loading: a reentrant lock.
        """
        # By number; a payload as long as no call has needed it.
        self._known: dict[int, payload.Payload | Callable[..., Any]] = {}
        self._loading = loading
        self._session = Session()
        #: What a function becomes whose results are to be iterated, with so many items under way;
        #: the lane sets it.
        self.streaming: Callable[[Callable[..., Any], int], Callable[..., Any]]
        #: Those that are not known any more, for the main thread to let go of.
        self.forgotten: deque[object] = deque()

    def learn(self, number: int, function: payload.Payload, needs: list[Need] | str) -> None:
        """Know ``function`` by ``number`` from now on; or a piece of ``__main__``, if ``needs`` is
        its name."""
        if isinstance(needs, str):
            self._session.learn(number, needs, function)
            return
        if needs:
            self._session.hold(number, needs)
        self._known[number] = function

    def forget(self, number: int) -> None:
        """Forget the function known by ``number``."""
        self._session.let_go(number)
        self.forgotten.append(self._known.pop(number, None))

    def unpickle(self, setup: PickledSetup) -> Any:
        """The initializer and its arguments."""
        for number, name, piece in setup.pieces:
            self._session.learn(number, name, payload.unflat(piece))
        self._session.bind_all((number, name) for number, name, _ in setup.pieces)
        return payload.loads(payload.unflat(setup.pickled))

    def have(self, pieces: list[Need]) -> None:
        """These pieces of ``__main__`` are here: this process was forked."""
        self._session.have(pieces)

    def load(self, job: Job) -> Callable[..., Any]:
        """The job's function, unpickled when its first call runs."""
        reference = job.reference
        if isinstance(reference, int):
            loaded = self._known[reference]
            if callable(loaded):
                return self._ready(job, loaded)
        with self._loading:
            if isinstance(reference, int):
                known = self._known[reference]
                if not callable(known):
                    self._session.bind(reference)
                    known = self._known[reference] = payload.loads(known)
            else:
                known = payload.loads(reference)
            return self._ready(job, known)

    def _ready(self, job: Job, function: Callable[..., Any]) -> Callable[..., Any]:
        if job.window is not None:
            with self._loading:  # the first has more to make, once
                function = self.streaming(function, job.window)
        job.function = function
        return function
