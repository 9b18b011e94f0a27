"""Memory of a process is its own, whatever started it; what the other profiles measure."""
import subprocess
import sys

import pytest
import torch

from cl_lib.errors import InputError
from cl_lib.profiling import kernels, pieces
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
    # a page or two that the child had let go of before it looked are part of the 200
    assert before < 199 < more < 210 and len(ballast)


def test_a_step_in_pieces_is_measured():
    seconds, extra = pieces.measure(16, 4, 1, 1)
    assert seconds > 0 and extra >= 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_kernels_are_measured_on_a_gpu_only():
    with pytest.raises(InputError, match="on a CUDA device, and there is none"):
        kernels.kernels()
