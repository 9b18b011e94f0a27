"""Memory of a process is its own, whatever started it."""
import subprocess
import sys

from cl_lib.profiling.memory import peak_mb

CHILD = """
from cl_lib.profiling.memory import peak_mb
before = peak_mb()
held = b"x" * (200 << 20)
print(before, peak_mb() - before)
"""


def test_the_peak_of_a_child_does_not_begin_with_its_parents():
    ballast = b"x" * (300 << 20)
    assert peak_mb() > 300
    before, more = map(float, subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True,
                                             check=True).stdout.split())
    assert before < 200 <= more < 210 and len(ballast)
