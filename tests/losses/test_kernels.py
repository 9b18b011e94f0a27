"""The Triton kernels, run by Triton's interpreter on the CPU, against the dense form in float64."""
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cl_lib.errors import InputError
from support.kernel_checks import CASES, NAMED

pytest.importorskip("triton")
TESTS = Path(__file__).resolve().parent.parent
# of a gradient's largest entry: what the dtype of the inputs leaves of their gradient
ROUNDING = {"float32": 2e-5, "float16": 1e-3, "bfloat16": 1.5e-2}


@pytest.fixture(scope="module")
def errors():
    """The interpreter is chosen before Triton is imported, so it has a process of its own."""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    env = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-m", "support.kernel_checks"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_are_those_of_the_dense_form(errors, name):
    case, found = CASES[name], errors[name]
    assert found["value"] <= 2e-6 * found["largest value"] + 1e-6
    assert {"q", "t"} <= found.keys() and ("k" in found) == (case[1] is not None)
    for of in set("qkt") & found.keys():
        assert found[of] <= ROUNDING[case[3]], of


def test_a_query_that_skips_all_keys_has_nothing(errors):
    assert errors["all skipped"]["skips all"] == 1


@pytest.mark.parametrize("name", NAMED)
def test_named_losses_by_kernel_are_the_dense_ones(errors, name):
    assert errors[name]["value"] < 2e-6 and errors[name]["gradient"] < 2e-5


def test_large_batches_on_a_gpu_go_to_the_kernels(monkeypatch):
    from cl_lib.losses import contrastive, kernels

    gpu = SimpleNamespace(is_cuda=True, dtype=torch.bfloat16)
    assert contrastive._kernel_runs(gpu) and not contrastive._kernel_runs(torch.ones(2, 2))
    assert not contrastive._kernel_runs(SimpleNamespace(is_cuda=True, dtype=torch.float64))
    monkeypatch.setattr(contrastive, "_kernel_runs", lambda x: True)
    monkeypatch.setattr(kernels, "log_partition", lambda q, k, tau, skip=None: "kernel")
    monkeypatch.setattr(contrastive, "DENSE_UP_TO", 8)
    assert contrastive.log_partition(torch.ones(3, 2), torch.ones(3, 2), 0.1) == "kernel"
    assert contrastive.log_partition(torch.ones(2, 2), torch.ones(2, 2), 0.1) != "kernel"


@pytest.mark.parametrize(("change", "message"), [
    ({}, "queries must be on a GPU, not on cpu"), ({"tau": 0.0}, "tau must be a positive"),
    ({"keys": torch.ones(3, 4)}, "keys have 4 dimensions, queries 2"),
    ({"keys": torch.ones(3, 2).half()}, "must both be bfloat16, float16 or float32"),
    ({"queries": torch.ones(3, 2).double()}, "not torch.float64"), ({"keys": torch.ones(3)}, "keys must have shape"),
    ({"skip": torch.ones(3, 1)}, "skip must be integers"),
    ({"skip": torch.ones(2, 1).long()}, r"skip must be integers of shape \(3, r\)"),
    ({"block": (16, 24)}, r"powers of two from 16, not \(16, 24\)"), ({"block": (8, 16)}, "powers of two from 16"),
])
def test_bad_input_is_named(change, message):
    from cl_lib.losses import kernels

    with pytest.raises(InputError, match=message):
        kernels.log_partition(**{"queries": torch.ones(3, 2), "keys": torch.ones(3, 2), "tau": 0.1, **change})
