"""Which parts of payloads go into memory files: when they are pickled, or when they are written.

Thread: whoever pickles keeps parts; whoever writes a frame moves them.
Guarantees: what there can be no file for stays a part in memory; bytes objects are not copied
before they are written, and other buffers are copied at once, because their owner may change them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from .shared import Buffer, File, Part, Region, file_to_write

#: Size from which a part of a payload goes into a file, or the small ones of a frame together do:
#: below, a pipe is as fast.
SHARED_FROM = 256 * 1024
#: Size of the least such part, because each takes whole pages.
_SMALL_FROM = 32 * 1024
#: Size from which bytes are put there when they become a payload, and so by the thread that
#: pickles. Below, whoever writes the frame does it: then bytes that wait need no second copy.
_AT_ONCE = 4 * 1024 * 1024
#: Size from which a file takes no more parts of a frame.
_ENOUGH = 1024 * 1024


def keep(parts: Iterable[Sequence[Buffer]]) -> tuple[Part, ...]:
    """Copies of a payload's parts, each given in pieces. The large ones share a file, if there can
    be one."""
    kept: list[Part] = []
    file: File | None = None
    possible = hasattr(os, "memfd_create")
    for pieces in parts:
        size = sum(map(len, pieces))
        exact = len(pieces) == 1 and type(pieces[0]) is bytes
        if possible and size >= (_AT_ONCE if exact else SHARED_FROM):
            try:
                file = file or file_to_write()
                kept.append(file.append(pieces, size, exact))
                continue
            except OSError:
                possible = False
        kept.append(bytes(pieces[0]) if exact else bytearray().join(pieces))
    return tuple(kept)


def move(parts: Sequence[Part]) -> Sequence[Part]:
    """The parts of a frame that is about to be written: those in memory are put into files, several
    in each, if there is much of them."""
    sizes = [len(part) if isinstance(part, bytes | bytearray) else 0 for part in parts]
    if sum(sizes) < SHARED_FROM or not hasattr(os, "memfd_create"):
        return parts
    moved: list[Part] = []
    file: File | None = None
    for place, (part, size) in enumerate(zip(parts, sizes, strict=True)):
        if isinstance(part, Region):
            file = None  # a frame has the parts of a file together
        elif isinstance(part, bytes | bytearray) and size >= _SMALL_FROM:
            if file is not None and file.size > _ENOUGH:
                file = None
            try:
                file = file or file_to_write()
                part = file.append((part,), size, exact=type(part) is bytes)
            except OSError:
                return [*moved, *parts[place:]]
        moved.append(part)
    return moved
