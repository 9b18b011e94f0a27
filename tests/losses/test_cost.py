"""What the streamed loss promises about time and memory, measured beside the dense peer in one run."""
import pytest

from cl_lib.profiling import losses


def test_stream_takes_a_fraction_of_the_peers_time_and_memory():
    pytest.importorskip("lightly")
    rows = {r["name"]: r for r in losses.losses(pairs=(4096,), d=128, repeats=2, names=("stream", "lightly"))}
    assert rows["stream"]["seconds"] <= 0.35 * rows["lightly"]["seconds"]
    assert rows["stream"]["extra_mb"] <= 0.12 * rows["lightly"]["extra_mb"]
