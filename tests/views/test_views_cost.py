"""What the batched views promise about speed, measured beside the peer's transform in one run."""
import pytest

from cl_lib.errors import InputError
from cl_lib.profiling import views


def test_views_are_made_ten_times_as_fast_as_the_peers():
    pytest.importorskip("lightly")
    best = {"batched": 0.0, "lightly": 0.0}
    for _ in range(6):  # who else computes here slows a pass down; the best pass of each counts
        for row in views.views(rounds=1):
            best[row["name"]] = max(best[row["name"]], row["images_s"])
        if best["batched"] >= 10 * best["lightly"]:
            break
    assert best["batched"] >= 10 * best["lightly"]


def test_unknown_implementation_is_named():
    with pytest.raises(InputError, match="unknown implementation 'lightl'; did you mean 'lightly'"):
        views.views(names=("lightl",))
