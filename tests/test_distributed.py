import math
import os
from itertools import product

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cl_lib import distributed
from cl_lib.losses import nt_xent

TAU = 0.3


def encoder():
    """Tanh, so that the gradient depends on every row; a learnt temperature; a parameter that nothing uses."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4)).double()
    net.register_parameter("log_tau", nn.Parameter(torch.tensor(math.log(TAU), dtype=torch.float64)))
    net.register_parameter("unused", nn.Parameter(torch.ones(2)))
    return net


def inputs(counts):
    views = torch.randn(2, sum(counts), 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [tuple(part) for part in zip(views[0].split(counts), views[1].split(counts))], views


def terms(queries, keys, own, tau):
    """InfoNCE written out, a term for each query; `own[i]` is the place of query i's key."""
    queries = queries / queries.norm(dim=1, keepdim=True)
    keys = keys / keys.norm(dim=1, keepdim=True)
    return torch.stack([-(q @ keys[j]) / tau + torch.stack([q @ k / tau for k in keys]).exp().sum().log()
                        for q, j in zip(queries, own)])


def on_one_process(counts, library):
    net, (x1, x2) = encoder(), inputs(counts)[1]
    z1, z2, tau = net(x1), net(x2), net.log_tau.exp()
    loss = nt_xent(z1, z2, tau=tau) if library else terms(z1, z2, range(len(z1)), tau).mean()
    loss.backward()
    return loss.item(), net


def whole(net, x1, x2):
    z1, z2 = (distributed.all_gather_with_grad(net(x)) for x in (x1, x2))
    return terms(z1, z2, range(len(z1)), net.log_tau.exp()).mean()


def own_anchors(net, x1, x2):
    z1, z2 = net(x1), net(x2)
    rows = distributed.rank_slice(z1)
    keys = distributed.all_gather_with_grad(z2)
    return distributed.mean_over_processes(terms(z1, keys, range(rows.start, rows.stop), net.log_tau.exp()))


def library(net, x1, x2):
    return nt_xent(net(x1), net(x2), tau=net.log_tau.exp(), gather=True)


class Wrapped(nn.Module):
    """The loss inside of the module, so that DistributedDataParallel sees its forward."""

    def __init__(self, net, loss):
        super().__init__()
        self.net, self.loss = net, loss

    def forward(self, x1, x2):
        return self.loss(self.net, x1, x2)


def start(rank, world, folder):
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)


def averaged_by(counts):
    """Without and with DistributedDataParallel, which takes seconds to import: with two processes only."""
    return (False, True) if len(counts) == 2 else (False,)


def worker(rank, counts, folder):
    start(rank, len(counts), folder)
    parts, _ = inputs(counts)
    found = {}
    for loss in (whole, own_anchors, library):
        for ddp in averaged_by(counts):
            net = encoder()
            model = Wrapped(net, loss)
            if ddp:
                model = DistributedDataParallel(model, find_unused_parameters=True)
            value = model(*parts[rank])
            value.backward()
            if not ddp:
                distributed.average_gradients(net.parameters())
            found[f"{loss.__name__} {ddp} value"] = value.detach()
            found |= {f"{loss.__name__} {ddp} {name}": p.grad for name, p in net.named_parameters() if p.grad is not None}
    rows = distributed.rank_slice(parts[rank][0])
    found["labels"] = distributed.all_gather_with_grad(torch.arange(counts[rank]) + 100 * rank)
    found["rows"] = torch.tensor([rows.start, rows.stop, distributed.is_distributed()])
    # three axes, no rows on process 0, and each process with its own function of all rows
    z = torch.full((rank, 2, 3), float(rank), requires_grad=True)
    (distributed.all_gather_with_grad(z) * (rank + 1)).sum().backward()
    found["cube"] = z.grad
    # a parameter that only process 0 used, and one that none did
    some, none = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
    if rank == 0:
        some.grad = torch.arange(3.0)
    distributed.average_gradients(p for p in (some, none))
    assert none.grad is None
    found["some"] = some.grad
    save_file({name: value.contiguous() for name, value in found.items()}, f"{folder}/{rank}.safetensors")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[(4, 1), (2, 3, 1, 2)], ids=str)
def ran(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gloo")
    mp.spawn(worker, (request.param, str(folder)), nprocs=len(request.param))
    return request.param, [load_file(folder / f"{rank}.safetensors") for rank in range(len(request.param))]


@pytest.mark.parametrize("loss", [whole, own_anchors, library])
def test_value_and_gradient_are_those_of_one_process(ran, loss):
    counts, found = ran
    value, net = on_one_process(counts, loss is library)
    for each, ddp in product(found, averaged_by(counts)):
        of = f"{loss.__name__} {ddp}"
        assert each[f"{of} value"].item() == pytest.approx(value, rel=1e-12)
        for name, p in net.named_parameters():
            if p.grad is None:
                assert not each.get(f"{of} {name}", torch.zeros(1)).any()
            else:
                assert p.grad.abs().max() > 1e-3
                assert torch.allclose(each[f"{of} {name}"], p.grad, rtol=1e-10, atol=1e-13), name


def test_integers_gather_in_the_order_of_the_ranks(ran):
    counts, found = ran
    expected = [100 * rank + i for rank, n in enumerate(counts) for i in range(n)]
    for rank, each in enumerate(found):
        first, last, several = each["rows"].tolist()
        assert each["labels"].tolist() == expected and several
        assert expected[first:last] == [100 * rank + i for i in range(counts[rank])]


def test_gradients_of_all_processes_add_up_also_without_rows(ran):
    counts, found = ran
    for rank, each in enumerate(found):
        assert each["cube"].equal(torch.full((rank, 2, 3), sum(range(1, len(counts) + 1))))


def test_a_parameter_that_only_one_process_used(ran):
    counts, found = ran
    for each in found:
        assert each["some"].tolist() == [v / len(counts) for v in (0, 1, 2)]


def test_alone_nothing_changes():
    z = torch.randn(3, 2, requires_grad=True, generator=torch.Generator().manual_seed(0))
    assert not distributed.is_distributed() and distributed.all_gather_with_grad(z) is z
    assert distributed.rank_slice(z) == slice(0, 3) and distributed.mean_over_processes(z[:, 0]).equal(z[:, 0].mean())
    p = nn.Parameter(torch.ones(2))
    p.grad = torch.arange(2.0)
    distributed.average_gradients([p])
    assert p.grad.tolist() == [0, 1]
