"""Memory that is mapped without a descriptor.

Thread: any.
Guarantees: the descriptor that is given may be closed, and none is left: ``mmap.mmap`` keeps one of
its own before Python 3.13.
"""

from __future__ import annotations

import mmap
import os
import sys
import weakref

from ...wire import page

if sys.version_info >= (3, 13):

    def map_memory(fd: int, length: int) -> memoryview:
        """The first bytes behind ``fd``, until all views of them are released."""
        return memoryview(mmap.mmap(fd, length, trackfd=False))

else:

    def map_memory(fd: int, length: int) -> memoryview:
        """The first bytes behind ``fd``, until all views of them are released."""
        try:
            import ctypes  # takes long
        except ImportError:  # Python can be built without it
            return page.map_memory(fd, length)

        class Memory(ctypes.c_char * length):  # type: ignore[misc]  # not a constant type
            pass  # unlike its base, it can be finalized

        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        access = mmap.PROT_READ | mmap.PROT_WRITE
        address = libc.mmap(None, length, access, mmap.MAP_SHARED, fd, 0)
        if address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        memory = Memory.from_address(address)
        weakref.finalize(memory, libc.munmap, address, length).atexit = False
        return memoryview(memory).cast("B")
