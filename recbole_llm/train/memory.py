"""Freed memory goes back to the system while a training runs.

The tensors of a step have other sizes every step, and glibc keeps the gaps: ml-1m's process grew to 5.5 GiB within nine
epochs with no tensor left behind. To hand them back at every step costs a sixth of it, for all that is taken anew must
be cleared by the system; so they are handed back when the process has grown.
"""

import ctypes
import mmap
import platform
from pathlib import Path

SLACK = 3 * 2**28  # bytes by which the process may grow over what it had after the last hand-back
LARGE = 2**22  # bytes; a larger block goes back to the system as soon as it is freed


class Memory:
    """Of a process that takes many steps: handed back whenever it has grown by ``SLACK``."""

    def __init__(self):
        self.lean = 0

    def tidy(self, *_):
        """After a step: look, and hand back what is free if there may be much of it."""
        if resident() > self.lean + SLACK:
            return_free_memory()
            self.lean = resident()


def return_large_blocks_at_once():
    """Tell glibc's ``malloc`` to map blocks from ``LARGE`` on apart, so that no gap is left where one was freed.

    Left alone it raises that bound to 32 MiB, which is more than any tensor of ml-1m's steps has.
    """
    if platform.libc_ver()[0] == "glibc":
        mmap_threshold = -3  # M_MMAP_THRESHOLD of malloc.h
        ctypes.CDLL("libc.so.6").mallopt(mmap_threshold, LARGE)


def resident():
    """Bytes of memory that the process holds; 0 where the system does not say so in ``/proc``."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0


def return_free_memory():
    """Hand freed memory back to the system where the C library is glibc; elsewhere do nothing."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
