"""Exceptions that tests have calls fail with."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any


class Unusual(BaseException):
    """Not an Exception: escapes what catches only those."""


class NeedsTwo(Exception):
    """Cannot be rebuilt from its ``args``, which is how exceptions are pickled."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({code})")


class KeepsItsFields(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class HoldsAFrame(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = 5
        self.file = sys._getframe()


class NoText(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code)

    def __str__(self) -> str:
        raise RuntimeError("no text either")


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Refuses to have attributes set: those that unpickling sets, and ``__traceback__`` too."""

    code: int


class FrozenButRebuilt(Frozen):
    def __reduce__(self) -> Any:
        return type(self), (self.code,)


class _Wordless(type):
    def __getattribute__(cls, name: str) -> Any:
        if name == "__qualname__":
            raise RuntimeError("no name either")
        return super().__getattribute__(name)


class Wordless(Exception, metaclass=_Wordless):
    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")


def fail(error: BaseException) -> None:
    raise error


def fail_with(kind: type[BaseException], *args: Any) -> None:
    raise kind(*args)
