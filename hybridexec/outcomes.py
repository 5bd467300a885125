"""What ``outcomes()`` yields: one record per call, whether it succeeded or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """How the call for one item ended.

    Attributes:
        item: the item that the call was made for; with several iterables, or ``star``, the tuple of
            the call's arguments.
        value: what the function returned; None if it failed.
        error: the exception the call ended with, or None.
        attempts: how many times the call was run; 0 if never.
        seconds: how long the last run took in the worker; None if that is not known.
        worker: process id of the worker that ran it last; None if none did.
        node: the name of the machine of that worker; empty if it is this one.
    """

    item: Any
    value: R | None
    error: BaseException | None
    attempts: int
    seconds: float | None
    worker: int | None
    node: str = ""

    @property
    def ok(self) -> bool:
        """Whether the call succeeded."""
        return self.error is None

    def result(self) -> R:
        """The value; raises the error if there is one."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                del self  # this frame is in the error's traceback
        return self.value  # type: ignore[return-value]  # None, if that was returned
