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

from cl_lib import distributed, losses
from cl_lib.errors import InputError
from cl_lib.losses import nt_xent, streaming

TAU = 0.3


def encoder():
    """Tanh, so that the gradient depends on every row; a learnt temperature and bias; a parameter that nothing uses."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4)).double()
    net.register_parameter("log_tau", nn.Parameter(torch.tensor(math.log(TAU), dtype=torch.float64)))
    net.register_parameter("bias", nn.Parameter(torch.tensor(-1.0, dtype=torch.float64)))
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


SHARDED = ("info_nce", "nt_xent", "clip", "siglip")


def sharded(net, x1, x2, name, how):
    """By a ring or gather each process has its own anchors' terms; by "own" all have the whole loss, and send no gradient."""
    z1, z2, options = net(x1), net(x2), {"tau": net.log_tau.exp()} | ({"bias": net.bias} if name == "siglip" else {})
    if how == "own":
        return getattr(losses, name)(*(distributed.all_gather_own_grad(z) for z in (z1, z2)), **options)
    if how == "one process":
        return getattr(losses, name)(z1, z2, **options)
    return getattr(distributed, f"sharded_{name}")(z1, z2, how=how, **options)


def result(net, value):
    """The value, and the gradient of all parameters that it reached."""
    return {"value": value.detach()} | {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def splits(counts):
    """As given; and the first process has nothing, the last all that is left."""
    return counts, (0, *counts[1:-1], counts[-1] + counts[0])


def low_level(counts, ranks):
    """Queries, keys, temperatures, two keys to skip and upstream gradients of these ranks, for the sums themselves."""
    g = torch.Generator().manual_seed(5)
    m = sum(counts)
    draw = {"q": torch.randn(m, 3, generator=g, dtype=torch.float64), "k": torch.randn(m, 3, generator=g, dtype=torch.float64),
            "tau": 0.1 + torch.rand(m, generator=g, dtype=torch.float64), "up": torch.randn(m, generator=g, dtype=torch.float64),
            "skip": torch.stack([torch.randperm(m, generator=g)[:2] for _ in range(m)])}
    first, last = sum(counts[:ranks.start]), sum(counts[:ranks.stop])
    return {name: v[first:last].requires_grad_(v.is_floating_point()) for name, v in draw.items()}


def sums(log_partition, softplus_sum, q, k, tau, skip, up):
    """Two sums, weighted, and the gradient of the queries, the keys and the temperatures."""
    found = {}
    for name, value in (("softmax", log_partition(q, k, tau, skip=skip)), ("softplus", softplus_sum(q, k, tau, 0.3, skip=skip))):
        found[f"{name} value"] = value.detach()
        grads = torch.autograd.grad((value * up.detach()).sum(), (q, k, tau))
        found |= {f"{name} {of}": g for of, g in zip(("q", "k", "tau"), grads, strict=True)}
    return found


def ring(net, x1, x2):
    return sharded(net, x1, x2, "nt_xent", "ring")


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
    for loss in (whole, own_anchors, library, ring):
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
    distributed.ROWS = 2  # so that these few queries make several blocks
    for split, name, how in product(splits(counts), SHARDED, (*distributed.SHARDINGS, "own")):
        net = encoder()
        value = sharded(net, *inputs(split)[0][rank], name, how)
        value.backward()
        distributed.average_gradients(net.parameters())
        found |= {f"{split} {name} {how} {of}": v for of, v in result(net, value).items()}
    for split in splits(counts):
        mine = low_level(split, range(rank, rank + 1))
        found |= {f"{split} {of}": v for of, v in sums(distributed.log_partition, distributed.softplus_sum, **mine).items()}
    # half precision, and a temperature that it does not hold
    z = low_level(counts, range(rank, rank + 1))["q"].detach().bfloat16().requires_grad_()
    for how in distributed.SHARDINGS:
        value = distributed.log_partition(z, z, 0.3, how=how)
        found |= {f"half {how} value": value.detach(), f"half {how} gradient": torch.autograd.grad(value.sum(), z)[0]}
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


@pytest.mark.parametrize("loss", [whole, own_anchors, library, ring])
def test_value_and_gradient_are_those_of_one_process(ran, loss):
    counts, found = ran
    value, net = on_one_process(counts, loss in (library, ring))
    for each, ddp in product(found, averaged_by(counts)):
        of = f"{loss.__name__} {ddp}"
        assert each[f"{of} value"].item() == pytest.approx(value, rel=1e-12)
        for name, p in net.named_parameters():
            if p.grad is None:
                assert not each.get(f"{of} {name}", torch.zeros(1)).any()
            else:
                assert p.grad.abs().max() > 1e-3
                assert torch.allclose(each[f"{of} {name}"], p.grad, rtol=1e-10, atol=1e-13), name


@pytest.mark.parametrize("how", [*distributed.SHARDINGS, "own"])
@pytest.mark.parametrize("name", SHARDED)
def test_sharded_losses_have_value_and_gradient_of_one_process(ran, name, how):
    counts, found = ran
    net = encoder()
    value = sharded(net, *inputs(counts)[1], name, "one process")
    value.backward()
    expected = result(net, value)
    assert ("bias" in expected) == (name == "siglip") and all((v.abs() > 1e-6).any() for v in expected.values())
    for each, split in product(found, splits(counts)):
        for of, v in expected.items():
            torch.testing.assert_close(each[f"{split} {name} {how} {of}"], v, rtol=1e-10, atol=1e-13)


def test_sums_round_a_ring_are_those_over_all_keys(ran):
    counts, found = ran
    for split in splits(counts):
        expected = sums(streaming.log_partition, streaming.softplus_sum, **low_level(split, range(len(split))))
        for of, value in expected.items():
            got = torch.cat([each[f"{split} {of}"] for each in found])
            torch.testing.assert_close(got, value, rtol=1e-10, atol=1e-13, msg=of)


@pytest.mark.parametrize("how", distributed.SHARDINGS)
def test_half_precision_travels_and_is_summed_in_float32(ran, how):
    counts, found = ran
    z = low_level(counts, range(len(counts)))["q"].detach().bfloat16().double().requires_grad_()
    value = torch.logsumexp(z @ z.T / 0.3, 1)
    (expected,) = torch.autograd.grad(value.sum(), z)
    got = torch.cat([each[f"half {how} value"] for each in found])
    assert got.dtype == torch.float32 and (got - value).abs().max() <= 1e-5 * value.abs().max()
    got = torch.cat([each[f"half {how} gradient"] for each in found])
    assert got.dtype == torch.bfloat16 and (got - expected).abs().max() <= 0.02 * expected.abs().max()


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
    assert distributed.all_gather_own_grad(z) is z
    for name in SHARDED:
        ours, alone = getattr(distributed, f"sharded_{name}"), getattr(losses, name)
        torch.testing.assert_close(ours(z, z.flip(0), tau=0.4), alone(z, z.flip(0), tau=0.4))
    p = nn.Parameter(torch.ones(2))
    p.grad = torch.arange(2.0)
    distributed.average_gradients([p])
    assert p.grad.tolist() == [0, 1]


@pytest.mark.parametrize(("call", "message"), [
    (lambda z: distributed.sharded_nt_xent(z, z[:2]), "z2 has shape"),
    (lambda z: distributed.sharded_clip(z, z, tau=torch.ones(3)), "tau must be a number"),
    (lambda z: distributed.sharded_info_nce(z / 0, z), "queries holds NaN or Inf"),
    (lambda z: distributed.sharded_siglip(z, z, bias=math.inf), "bias must be a finite number"),
    (lambda z: distributed.sharded_siglip(z, z, how="star"), "unknown sharding 'star'"),
    (lambda z: distributed.log_partition(z, z, 0.1, how="rings"), "did you mean 'ring'"),
])
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call(torch.ones(3, 2))
