"""The heap: what a large message took goes back to the system, where a container's memory is counted."""

import contextlib
import ctypes
import gc

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""Parameter of glibc's `mallopt` (https://man7.org/linux/man-pages/man3/mallopt.3.html)."""


def configure_malloc() -> None:
    """Map each block of 1 MiB and more by itself, and let all threads share two arenas.

    Left to itself, glibc raises the first bound to 32 MiB as soon as such a block is freed, and has an arena for each
    thread: after a flood of large messages a third of the memory was holes. Without effect where there is no glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 2**20)
        mallopt(_M_ARENA_MAX, 2)


def freeze_gc() -> None:
    """Let the garbage collector pass over all that is there, and look at the rest less often.

    What was imported stays as long as the process, and the collector writes to each object that it looks at: so the
    pages that gunicorn's master and its worker share stay shared. The objects of a request live as long as its
    flush, and make no cycles: to look at them again and again took a tenth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)
