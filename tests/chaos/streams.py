"""Maps and their relatives, and calls that yield, iterated in a storm."""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

from hybridexec import Progress
from hybridexec.options import Lane

from . import calls

#: Seconds in which whatever was begun must end.
BOUND = 60.0


class Stream:
    """A map or one of its relatives, iterated by a thread of its own."""

    def __init__(
        self, kind: str, view: Any, lane: Lane, numbers: range, stop_after: int | None
    ) -> None:
        self.kind = kind
        self._numbers = numbers
        self._stop_after = stop_after
        self._got: list[Any] = []
        self._raised: BaseException | None = None
        # Begun here: a map reads its items, and is refused, in the thread that calls it.
        self._shown: list[Progress] = []
        iterator = _OPENERS[kind](view.options(lane=lane), lane, numbers, self._shown.append)
        self._thread = threading.Thread(target=self._run, args=(iterator,), daemon=True)
        self._thread.start()

    def _run(self, iterator: Any) -> None:
        try:
            for value in iterator:
                if len(self._got) == self._stop_after:
                    break
                self._got.append(value)
        except BaseException as error:
            self._raised = error
        finally:
            iterator.close()

    def join(self) -> None:
        self._thread.join(BOUND)
        assert not self._thread.is_alive(), f"{self} has not ended; it got {len(self._got)}"

    def check(self, explains: Callable[[BaseException], bool], ending: bool) -> None:
        """Each item at most once and rightly; all of them, if nothing cut the stream short."""
        if self.kind in ("map", "lazy map", "stream"):
            right: Any = [call * 7 for call in self._numbers[: len(self._got)]]
            assert self._got == right, f"{self}: {self._got}"
        else:
            self._check_unordered(explains)
        self._check_shown()
        error = self._raised
        if error is None:
            wanted = len(self._numbers) if self._stop_after is None else self._stop_after
            assert len(self._got) == min(wanted, len(self._numbers)), f"{self}: {len(self._got)}"
        elif not (ending and _refused(error)):
            assert explains(error), f"{self} raised {error!r}"

    def _check_shown(self) -> None:
        """What was fetched had been counted; what was cancelled is not."""
        errors = (o.error if self.kind == "outcomes" else o for o in self._got)
        fetched = sum(not isinstance(error, CancelledError) for error in errors)
        done = [progress.done for progress in self._shown]
        assert done == sorted(done), f"{self}: {done}"
        if done:  # it was not refused before it began
            assert fetched <= done[-1] <= len(self._numbers), f"{self}: {fetched} {done}"
            assert self._shown[-1].failed <= done[-1]

    def _check_unordered(self, explains: Callable[[BaseException], bool]) -> None:
        if self.kind == "outcomes":
            ends = [(o.item, o.value if o.ok else None, o.error) for o in self._got]
        else:
            ends = [_end_of(value) for value in self._got]
        seen = Counter(item for item, _, _ in ends if item is not None)
        assert all(count == 1 for count in seen.values()), f"{self} gave twice: {seen}"
        assert seen.keys() <= set(self._numbers), f"{self} gave what is not its own: {seen}"
        for item, value, error in ends:
            if error is not None and explains(error):
                continue
            if item is not None:
                assert calls.plan_item(item).is_right(value, error), f"{self}: {item} {error!r}"
            else:
                assert isinstance(error, _ITEM_ERRORS), f"{self}: {error!r}"

    def __str__(self) -> str:
        return f"{self.kind} over {self._numbers}, closed after {self._stop_after}"


#: What an item fails with, if nothing happens to its worker.
_ITEM_ERRORS = (ValueError, SystemExit, TypeError, calls.Spoiled)


def _map(view: Any, lane: Lane, numbers: range, progress: Any, **named: Any) -> Any:
    return view.map(calls.quick, numbers, progress=progress, **named)


def _outcomes(view: Any, lane: Lane, numbers: range, progress: Any) -> Any:
    return view.outcomes(calls.mixed, numbers, buffersize=100, progress=progress)


def _unordered(view: Any, lane: Lane, numbers: range, progress: Any) -> Any:
    return view.map_unordered(calls.mixed, numbers, return_exceptions=True, progress=progress)


def _stream(view: Any, lane: Lane, numbers: range, progress: Any) -> Any:
    seconds = 0.005 if len(numbers) < 100 else 0.0
    return view.stream(calls.in_lane(calls.items, lane), numbers[0], numbers, seconds)


_OPENERS: dict[str, Callable[..., Any]] = {
    "map": _map,
    "lazy map": functools.partial(_map, buffersize=20),
    "unordered": _unordered,
    "outcomes": _outcomes,
    "stream": _stream,
}


def _end_of(value: Any) -> tuple[int | None, Any, BaseException | None]:
    """Item, value and error of what an unordered map gave; an error does not tell its item."""
    if isinstance(value, BaseException):
        return None, None, value
    return value // 7, value, None


def _refused(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and "after shutdown" in str(error)
