"""How much memory a training takes."""

import ctypes
import gc
import math
import sys
from contextlib import suppress
from pathlib import Path


def forget_peak() -> None:
    """Let the peak begin anew, where the system can (Linux), so that one run does not inherit another's.

    What an earlier run left is given back first, as far as the allocator lets go of it.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_megabytes() -> float:
    """Return the most memory this process had at one time, in megabytes; NaN where the system does not tell.

    It is the resident set: weights, gradients, activations and the libraries themselves, mapped files as far
    as they were in memory, but nothing of a graphics card. On Linux ``getrusage`` is no help, as a process
    takes over the peak of the one that started it.
    """
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
