"""What a call raises to be tried again at a time of its choice.

Thread: calls raise it, in workers; a module of its own, because :mod:`.errors` is slow to load.
"""

from __future__ import annotations

from .checks import seconds as checked


class RetryAfter(Exception):
    """Raised by a call that is to be tried again in so many seconds.

    It counts as a failure after which the call may be tried again, whatever its ``retry_on`` is, as
    long as it has ``retries`` left; ``backoff`` has no say. Without retries, or after the last, it
    is what the call fails with. The limits of the call hold for its retry, which may come later
    because of them.

    Args:
        seconds: how many, from now on; 0 or more.
        message: the error's text.

    Attributes:
        seconds: as given.

    Raises:
        TypeError, ValueError: ``seconds`` is no finite number of 0 or more.
    """

    def __init__(self, seconds: float, message: str = "") -> None:
        super().__init__(seconds, message)
        self.seconds = checked(seconds, "seconds", zero=True)

    def __str__(self) -> str:
        message = self.args[1] if len(self.args) > 1 else ""
        return str(message) or f"to be tried again in {self.seconds:g} s"
