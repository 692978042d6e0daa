"""Settings of the allocator and of the garbage collector, so that the memory of large messages is returned."""

import contextlib
import ctypes
import gc

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""Parameter of glibc's `mallopt` (https://man7.org/linux/man-pages/man3/mallopt.3.html)."""


def configure_malloc() -> None:
    """Map each block of 1 MiB and more by itself, and let all threads share two arenas.

    By default glibc raises the first limit to 32 MiB as soon as such a block is freed, and has an arena for each
    thread. Then a third of the memory was holes after a flood of large messages. Without glibc it has no effect.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 2**20)
        mallopt(_M_ARENA_MAX, 2)


def freeze_gc() -> None:
    """Freeze all imported objects, and raise the collection threshold.

    The collector writes to each object that it visits. Frozen objects stay in the pages that gunicorn's master and its
    worker share. The objects of a request live as long as its flush, and are in no cycle (`references.py`): visiting
    them again and again took a tenth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)
