"""What the C library does with memory that is freed."""

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # parameters of mallopt(3)


def keep_freed_memory() -> bool:
    """Have glibc keep freed memory for the next tensors until the process ends; False where there is no glibc.

    Left alone, it takes each block above 32 MB from the system and gives it back when it is freed, and the system has
    to clear all of its pages again: more than half of a frozen trunk's time at 224 pixels, and two fifths of that of
    two trainings side by side at 256 and 448.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(library, "mallopt"):
        return False
    kept = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 2**26}
    return all([library.mallopt(parameter, value) for parameter, value in kept.items()])
