"""``Frontier``: work that finds more work.

Thread: any adds; the thread that iterates results takes.
Guarantees: each item is taken once, in the order in which they came; one whose result the loop did
not get is there for the next loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Generic, TypeVar

from . import native

T = TypeVar("T")

_NOT_HASHABLE = (
    "a Frontier tells whether an item is new by its hash, and {kind} has none: give it key=, a "
    "function that returns for an item what it is to be told apart by, its URL, say"
)
_NOT_ITERABLE = (
    "only map_unordered() and outcomes(), and their async twins, read a Frontier, as their one "
    "iterable: a map() that keeps the order of its items would wait for results that it keeps "
    "back, and several iterables would have to end together (make each item a tuple, with "
    "star=True)"
)
_TAKEN = (
    "another loop reads this Frontier, and would not hear of what this one finds: let one loop end "
    "before the next begins, or use two frontiers"
)


class Frontier(Generic[T]):
    """Items for ``map_unordered`` or ``outcomes``, to which more may be added while they run.

    Add what a result has led to in the loop that gets the results, or in any other thread, callback
    or greenlet. Each item is called once, however often it is added. The loop goes on while calls
    are left or running, and ends when it asks for a result and there are none.

    A loop that was left early can be gone on with: iterate over results of the same frontier again.
    What had not been begun is still there, and before it the items whose results that loop did not
    get. **Of these, some may have run**, and run again. An item whose result it got counts as done,
    also if that was an error, or the loop ended in the midst of it.

    ``len(frontier)`` is the number of items that wait for their call; ``item in frontier`` says
    whether it was ever added.
    """

    def __init__(
        self,
        items: Iterable[T] = (),
        key: Callable[[T], Hashable] | None = None,
        *,
        done: Iterable[T] = (),
    ) -> None:
        """
        Args:
            items: the first items.
            key: returns what an item is told apart by; by default that is the item itself.
            done: items that count as added before, and are not called: those of an earlier run.

        Raises:
            TypeError: an item, or what ``key`` returned for it, cannot be hashed.
        """
        if key is not None and not callable(key):
            raise TypeError(f"key must be a function of an item, not {type(key).__name__}")
        self._key = key
        # Native and reentrant: nobody waits while he holds it, and a finalizer may add.
        self._lock = native.new_lock()
        self._seen: set[Hashable] = set()
        self._waiting: deque[T] = deque()
        # Those that the loop took and has no result of, by place: the first that it takes is 0.
        self._under_way: dict[int, T] = {}
        self._taken = 0
        # Wakes the loop that reads; None while none does.
        self._wake: Callable[[], None] | None = None
        self._seen.update(map(self._key_of, done))
        self.extend(items)

    def add(self, item: T) -> bool:
        """Have a call made for ``item``, unless it was added before; returns whether it is new.

        Raises:
            TypeError: it cannot be hashed, nor told apart by ``key``.
        """
        return self.extend((item,)) == 1

    def extend(self, items: Iterable[T]) -> int:
        """Add each of the items; returns how many were new.

        Raises:
            TypeError: as for :meth:`add`; those before it were added.
        """
        count = 0
        for item in items:
            key = self._key_of(item)
            with self._lock:
                if key in self._seen:
                    continue
                self._seen.add(key)
                self._waiting.append(item)
                wake = self._wake if len(self._waiting) == 1 else None
            count += 1
            if wake is not None:
                wake()
        return count

    @property
    def seen(self) -> int:
        """How many different items were ever added, those of ``done`` included."""
        return len(self._seen)

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, item: T) -> bool:
        return self._key_of(item) in self._seen

    def __iter__(self) -> Iterator[T]:
        raise TypeError(_NOT_ITERABLE)

    def __repr__(self) -> str:
        return f"<Frontier: {len(self._waiting)} waiting, {len(self._seen)} seen>"

    def _key_of(self, item: T) -> Hashable:
        key: Hashable = item if self._key is None else self._key(item)
        try:
            hash(key)
        except TypeError:
            kind = f"this {type(item).__name__}"
            if self._key is not None:
                kind = f"the {type(key).__name__} that key= has returned for {kind}"
            raise TypeError(_NOT_HASHABLE.format(kind=kind)) from None
        return key

    # -- the loop that reads ------------------------------------------------------------------

    def begin(self, wake: Callable[[], None]) -> None:
        """A loop begins to read; ``wake`` is called when there are items again.

        :meta private:

        Raises:
            RuntimeError: another loop reads.
        """
        with self._lock:
            if self._wake is not None:
                raise RuntimeError(_TAKEN)
            self._wake = wake

    def take(self, count: int) -> list[T]:
        """The next items, ``count`` at most.

        :meta private:
        """
        waiting, under_way = self._waiting, self._under_way
        with self._lock:
            first = self._taken
            self._taken += min(count, len(waiting))
            for place in range(first, self._taken):
                under_way[place] = waiting[0]  # first, so that Ctrl-C loses none
                waiting.popleft()
            return [under_way[place] for place in range(first, self._taken)]

    def got(self, place: int) -> None:
        """The loop has the result of this item.

        :meta private:
        """
        del self._under_way[place]

    def end(self) -> None:
        """The loop ends: what is under way is there for the next.

        :meta private:
        """
        with self._lock:
            left = [item for _, item in sorted(self._under_way.items(), key=_place, reverse=True)]
            self._waiting.extendleft(left)
            self._under_way.clear()
            self._taken = 0
            self._wake = None


def _place(entry: tuple[int, object]) -> int:
    return entry[0]
