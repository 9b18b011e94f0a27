"""The largest memory that a process has held."""
import resource
from pathlib import Path


def peak_mb() -> float:
    """MiB of resident memory at its peak, in this process since it started.

    Linux keeps this number for the program itself; what getrusage tells there begins with the size of the process
    that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
