"""The peak of memory of a process of its own."""

import subprocess
import sys

PEAK = """
import resource, sys

# Linux hands a process the peak of the one that started it; of its own, the status alone tells.
if sys.platform == "linux":
    with open("/proc/self/status") as status:
        print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 2**10)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def peak_megabytes(program: str, **given: object) -> float:
    """Return the peak of a process that runs a program."""
    code = program.format(**given) + PEAK
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(printed.stdout)
