"""Functions that count in fingerprints by a number must give the values that they gave when the number was set."""
import ast
import json
from pathlib import Path

import pytest
import torch

from cl_lib import fingerprint
from cl_lib.losses import contrastive, streaming

KNOWN = Path(__file__).with_name("pinned.json")


def values(call):
    """Value and gradients of a sum of rows, with a number a row so that none can stand for another."""
    g = torch.Generator().manual_seed(0)
    q, k = (torch.nn.functional.normalize(torch.randn(n, 5, generator=g, dtype=torch.float64), dim=1).requires_grad_() for n in (7, 9))
    tau = torch.linspace(0.05, 0.7, 7, dtype=torch.float64).requires_grad_()
    skip = torch.randint(9, (7, 2), generator=g)
    out = call(q, k, tau, skip)
    gradients = torch.autograd.grad((out * torch.arange(1, len(out) + 1)).sum(), [q, k, tau], allow_unused=True)
    return [x.flatten().tolist() for x in (out, *gradients) if x is not None]


CALLS = {
    "cl_lib.losses.contrastive.log_partition": {
        **{method: lambda q, k, tau, skip, method=method: contrastive.log_partition(q, k, tau, skip=skip, method=method)
           for method in contrastive.METHODS},
        "own keys": lambda q, k, tau, skip: contrastive.log_partition(q, q, 0.2, skip=torch.arange(7)[:, None], method="stream")},
    "cl_lib.losses.streaming.log_partition": {
        "blocks": lambda q, k, tau, skip: streaming.log_partition(q, k, tau, skip=skip, block=4),
        "own keys": lambda q, k, tau, skip: streaming.log_partition(q, q, 0.2, block=4)},
    "cl_lib.losses.streaming.softplus_sum": {
        "blocks": lambda q, k, tau, skip: streaming.softplus_sum(q, k, tau, -1.5, skip=skip, block=4)},
}


def test_every_pinned_function_is_held():
    found = {}
    for path in fingerprint.HERE.rglob("*.py"):
        module = ".".join(("cl_lib", *path.relative_to(fingerprint.HERE).with_suffix("").parts))
        for node in ast.parse(path.read_text()).body:
            if (number := fingerprint._pinned(node)) is not None:
                found[f"{module}.{node.name}"] = number
    known = json.loads(KNOWN.read_text())
    assert set(found) == set(CALLS) and found == {name: entry["number"] for name, entry in known.items()}


@pytest.mark.parametrize(("name", "form"), [(name, form) for name, forms in CALLS.items() for form in forms])
def test_values_are_those_of_the_number(name, form):
    expected = json.loads(KNOWN.read_text())[name]["values"][form]
    for now, then in zip(values(CALLS[name][form]), expected, strict=True):
        assert torch.allclose(torch.tensor(now), torch.tensor(then), rtol=1e-12, atol=1e-12)
