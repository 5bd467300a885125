"""Functions that see to something around each of their calls: set context variables, say.

Thread: in the parent, callers' threads make and pickle them; in the worker, calls run them.
Guarantees: in messages, such a function has the name of the one it calls; what a call makes of a
context variable's value, no other call sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context, ContextVar, copy_context
from types import CoroutineType
from typing import Any

from . import payload
from .wording import function_name

#: A variable and its value, or the pickle of that in a form that a pickle can hold.
Setting = tuple[ContextVar[Any], Any]


class Surrounded:
    """A function, and what is done around each call of it."""

    #: What a worker must have before it unpickles this, besides what pickling it tells.
    needs: tuple[Any, ...] = ()
    #: Told when runs of its calls came to nothing and are to be repeated; None for nobody.
    listener: Callable[[list[Any]], object] | None = None
    #: Whether this object always pickles to the same.
    constant = False

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__qualname__ = function_name(function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.function(*args, **kwargs)

    def all_needs(self) -> tuple[Any, ...]:
        """Those of this and of what is in it; after it was pickled."""
        inner = self.function
        return (*self.needs, *inner.all_needs()) if isinstance(inner, Surrounded) else self.needs


def innermost(function: object) -> object:
    """The user's function, without what is done around its calls."""
    while isinstance(function, Surrounded):
        function = function.function
    return function


def _task(coroutine: CoroutineType[Any, Any, Any], context: Context) -> Any:
    """What runs a coroutine in that context."""
    import asyncio  # rarely needed, and there where there are coroutines

    return asyncio.get_running_loop().create_task(coroutine, context=context)


class Set(Surrounded):
    """A function whose calls find context variables set, and others not set."""

    def __init__(
        self,
        function: Callable[..., Any],
        plain: Sequence[Setting],
        pickled: Sequence[Setting],
        unset: Sequence[ContextVar[Any]],
    ) -> None:
        """
        Args:
            plain: variables with values that nobody can change.
            pickled: others, which are unpickled for each call.
            unset: those that have no value.
        """
        super().__init__(function)
        self._plain = plain
        self._pickled = pickled
        self._unset = unset

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, in the context of this call."""
        for variable, value in self._plain:
            variable.set(value)
        for variable, value in self._pickled:
            try:
                variable.set(payload.loads(payload.unflat(value)))
            except BaseException as error:
                from . import variables  # rarely needed

                variables.explain(error, variable.name)
                raise
        if self._unset:
            context = copy_context()
            # The initializer may have set one, or this is a forked worker.
            if any(variable in context for variable in self._unset):
                fresh = self._without(context)
                value = fresh.run(self.function, *args, **kwargs)
                return _task(value, fresh) if type(value) is CoroutineType else value
        return self.function(*args, **kwargs)

    def _without(self, context: Context) -> Context:
        fresh = Context()
        for variable, value in context.items():
            if variable not in self._unset:
                fresh.run(variable.set, value)
        return fresh
