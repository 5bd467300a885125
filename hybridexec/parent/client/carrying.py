"""Calls that take context variables of their caller along: ``options(propagate=...)``.

Thread: callers' threads.
Guarantees: a call has the values that the variables have where it is submitted, or where its
``map`` is called, in the thread that does so. Calls made otherwise do not pass through here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ...wire import payload, surrounded, variables
from ...wire.wording import add_note
from ..work import session
from ..work.function import check_callable

if TYPE_CHECKING:
    from ...options import CallOptions
    from ..assembly import Assembly
    from .submission import Submission

_UNSET: Any = object()


class Carrier:
    """The assembly of a view whose calls take variables along: another, with its own way in."""

    def __init__(self, assembly: Assembly, propagated: Iterable[ContextVar[Any]]) -> None:
        """
        Raises:
            ValueError: a worker could not find one of the variables.
        """
        self._assembly = assembly
        self.submission = _WayIn(assembly, [_travelling(variable) for variable in propagated])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._assembly, name)


class _WayIn:
    """As :class:`.submission.Submission`."""

    def __init__(self, assembly: Assembly, travelling: list[variables.Travelling]) -> None:
        self._assembly = assembly
        self._variables = travelling
        # The last function whose calls may share it: for a loop of submits.
        self._last: _Carrying | None = None

    def _inner(self, options: CallOptions, fn: Callable[..., Any]) -> Submission:
        assembly = self._assembly
        return assembly.submission or assembly.open(options.lane_of(fn))

    def submit(self, options: Any, fn: Callable[..., Any], *others: Any) -> Any:
        return self._inner(options, fn).submit(options, self._carrying(fn), *others)

    def stream(self, options: Any, fn: Callable[..., Any], *others: Any) -> Any:
        return self._inner(options, fn).stream(options, self._carrying(fn), *others)

    def map(self, options: Any, fn: Callable[..., Any], *others: Any) -> Any:
        return self._inner(options, fn).map(options, self._carrying(fn), *others)

    def map_unordered(self, options: Any, fn: Callable[..., Any], *others: Any) -> Any:
        return self._inner(options, fn).map_unordered(options, self._carrying(fn), *others)

    def outcomes(self, options: Any, fn: Callable[..., Any], *others: Any) -> Any:
        return self._inner(options, fn).outcomes(options, self._carrying(fn), *others)

    def awaited(self, options: Any, fn: Callable[..., Any], *others: Any) -> Any:
        return self._inner(options, fn).awaited(options, self._carrying(fn), *others)

    @property
    def room(self) -> Any:
        assert self._assembly.engine is not None  # with it, there is a way in
        way_in: Any = self._assembly.submission
        return way_in.room

    def _carrying(self, fn: Callable[..., Any]) -> _Carrying:
        values = [each.variable.get(_UNSET) for each in self._variables]
        last = self._last
        if last is not None and last.is_for(fn, values):
            return last
        check_callable(fn)
        carrying = _Carrying(fn, self._variables, values)
        self._last = carrying if carrying.constant else None
        return carrying


class _Carrying(surrounded.Surrounded):
    """A function, and the values of variables at one time. In a worker, it is a ``Set``."""

    def __init__(
        self,
        function: Callable[..., Any],
        travelling: list[variables.Travelling],
        values: list[Any],
    ) -> None:
        super().__init__(function)
        self._values = values
        self._variables = travelling
        # Others may be changed in place, and functions of __main__ use what may be.
        self.constant = payload.travels_by_reference(function) and all(
            value is _UNSET or payload.is_plain(value) for value in values
        )

    def is_for(self, function: Callable[..., Any], values: list[Any]) -> bool:
        """Whether these are the function and the values."""
        return function is self.function and all(map(_is, values, self._values))

    def __reduce__(self) -> tuple[Any, ...]:
        plain: list[tuple[variables.Travelling, Any]] = []
        pickled: list[tuple[variables.Travelling, Any]] = []
        unset: list[variables.Travelling] = []
        needs: session.Pieces = ()
        for each, value in zip(self._variables, self._values, strict=True):
            if value is _UNSET:
                unset.append(each)
            elif payload.is_plain(value):
                plain.append((each, value))
            else:
                dumped, more = _dumps(each.variable, value)
                needs = session.merged(needs, more)
                pickled.append((each, payload.flat(dumped)))
        self.needs = needs
        return surrounded.Set, (self.function, plain, pickled, unset)


def _dumps(variable: ContextVar[Any], value: object) -> tuple[payload.Payload, session.Pieces]:
    try:
        return session.dumps(value)
    except Exception as error:
        add_note(error, f"This is the value of the context variable {variable.name!r}.")
        raise


def _is(one: object, other: object) -> bool:
    return one is other


def _travelling(variable: ContextVar[Any]) -> variables.Travelling:
    if variables.place_of(variable) is None:
        raise ValueError(
            f"propagate: workers cannot find the context variable {variable.name!r}, because it is "
            "no module's global: bind it to a name at the top of a module, outside of functions, "
            "classes and containers"
        )
    return variables.Travelling(variable)
