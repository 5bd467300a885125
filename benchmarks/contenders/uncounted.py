"""Workers that do not note how long calls run and wait: preloaded where that cost is measured."""

from __future__ import annotations

from typing import Any

from hybridexec.worker.vitals import Vitals


def _nothing(self: Vitals, *_: Any) -> None:
    pass


Vitals.ran = _nothing  # type: ignore[method-assign]  # that is the point
