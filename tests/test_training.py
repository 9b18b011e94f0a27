"""The training loop against loops written by hand, and what it promises about seeds, batches and errors."""
import itertools
import math
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cl_lib import losses
from cl_lib.errors import InputError
from cl_lib.training import batches, generator, group_batches, in_pieces, train

STEPS = 13


def model(dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)


def data(dtype=torch.float64):
    return torch.randn(STEPS, 16, 5, generator=generator(0), dtype=torch.float64).to(dtype)


def objective(net):
    return lambda x: F.mse_loss(net(x), x[:, :3].cos())


def rates(steps, lr, warmup):
    rise = max(1, round(warmup * steps))
    return [lr * (s + 1) / rise if s < rise else lr * (1 + math.cos(math.pi * (s - rise) / (steps - rise))) / 2
            for s in range(steps)]


@pytest.mark.parametrize("warmup", [0.0, 0.3])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_equals_a_loop_by_hand(name, warmup):
    ours, theirs, x = model(), model(), data()
    decay = 0.3
    history = train(ours, objective(ours), iter(x), steps=STEPS, lr=0.05, optimizer=name, weight_decay=decay,
                    warmup=warmup)
    # one optimiser for each parameter, rate and decay set by hand
    make = {"sgd": lambda p, d: torch.optim.SGD([p], momentum=0.9, weight_decay=d),
            "adam": lambda p, d: torch.optim.Adam([p], weight_decay=d),
            "adamw": lambda p, d: torch.optim.AdamW([p], weight_decay=d)}[name]
    optims = [make(p, 0.0 if "bias" in n or n.startswith("1.") else decay) for n, p in theirs.named_parameters()]
    loss, expected = objective(theirs), []
    for batch, rate in zip(x, rates(STEPS, 0.05, warmup), strict=True):
        value = loss(batch)
        theirs.zero_grad()
        value.backward()
        for o in optims:
            o.param_groups[0]["lr"] = rate
            o.step()
        expected.append(value.item())
    assert history == pytest.approx(expected, rel=1e-10)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("steps", "warmup"), [(20, 0.1), (20, 0.0), (7, 0.5), (3, 0.99), (1, 0.1)])
def test_the_rate_rises_and_falls_as_said(steps, warmup):
    # plain SGD on a slope of one moves by the rate
    weight = nn.Linear(1, 1, bias=False)
    places = [weight.weight.item()]
    train(weight, lambda _: weight.weight.sum(), itertools.repeat(None), steps=steps, lr=0.5, optimizer="sgd",
          momentum=0.0, weight_decay=0.0, warmup=warmup,
          after_step=lambda step, loss: places.append(weight.weight.item()))
    moved = [a - b for a, b in itertools.pairwise(places)]
    assert moved == pytest.approx(rates(steps, 0.5, warmup), abs=1e-6) and max(moved) == pytest.approx(0.5)


def test_only_matrices_decay():
    net = model()
    before = [p.detach().clone() for p in net.parameters()]
    train(net, lambda _: 0 * sum(p.sum() for p in net.parameters()), itertools.repeat(None), steps=4, lr=0.1,
          weight_decay=0.5)
    shrunk = math.prod(1 - 0.5 * r for r in rates(4, 0.1, 0.1))
    for p, b in zip(net.parameters(), before, strict=True):
        torch.testing.assert_close(p.detach(), b * (shrunk if p.ndim > 1 else 1.0), rtol=1e-10, atol=0)


def test_frozen_parameters_stay():
    net = model()
    net[0].weight.requires_grad_(False)
    before = net[0].weight.clone()
    train(net, objective(net), iter(data()), steps=STEPS, lr=0.1, weight_decay=0.5)
    assert net[0].weight.equal(before) and net[0].weight.grad is None
    for p in net.parameters():
        p.requires_grad_(False)
    with pytest.raises(InputError, match="no parameter that requires a gradient"):
        train(net, objective(net), iter(data()), steps=1, lr=0.1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_stops_before_the_update_of_a_loss_that_is_not_finite(value):
    net, seen = model(), []
    loss = objective(net)
    factors = iter([1.0] * 4 + [value] * 9)
    with pytest.raises(FloatingPointError, match=rf"the loss is {value} at step 4 of 13 \(lr 0.1\)"):
        train(net, lambda x: loss(x) * next(factors), iter(data()), steps=STEPS, lr=0.1,
              after_step=lambda step, _: seen.append(step))
    assert seen == [0, 1, 2, 3] and all(p.isfinite().all() for p in net.parameters())


def test_after_step_sees_each_update_and_its_loss():
    net, seen = model(), []
    weights = [net[0].weight.detach().clone()]

    def after(step, loss):
        assert net.training and not net[0].weight.equal(weights[-1])
        weights.append(net[0].weight.detach().clone())
        seen.append((step, loss))

    history = train(net, objective(net), iter(data()), steps=STEPS, lr=0.1, after_step=after)
    assert seen == list(enumerate(history)) and not net.training


@pytest.mark.parametrize(("precision", "dtype"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_half_precision_computes_in_it_and_keeps_float32_weights(precision, dtype):
    x, found, seen = data(torch.float32), {}, set()
    for p in ("float32", precision):
        net = model(torch.float32)
        net[0].register_forward_hook(lambda module, inputs, out, p=p: seen.add((p, out.dtype)))
        history = train(net, objective(net), iter(x), steps=STEPS, lr=0.02, precision=p)
        found[p] = torch.tensor([*history, *(v for w in net.parameters() for v in w.flatten().tolist())])
        assert all(w.dtype == torch.float32 for w in net.parameters())
    assert seen == {("float32", torch.float32), (precision, dtype)}
    difference = (found["float32"] - found[precision]).abs().max().item()
    assert 0 < difference < 0.1


@pytest.mark.parametrize(("n", "size"), [(10, 3), (12, 4), (5, 5), (7, 1)])
def test_batches_hold_each_item_at_most_once_a_pass(n, size):
    stream, passes = batches(n, size, generator(3)), []
    for _ in range(6):
        drawn = [next(stream) for _ in range(n // size)]
        assert all(b.shape == (size,) and b.dtype == torch.int64 for b in drawn)
        order = torch.cat(drawn).tolist()
        assert len(set(order)) == len(order) == n - n % size and set(order) <= set(range(n))
        passes.append(tuple(order))
    assert len(set(passes)) > 1 and set().union(*passes) == set(range(n))
    again = batches(n, size, generator(3))
    assert tuple(torch.cat([next(again) for _ in range(n // size)]).tolist()) == passes[0]


def test_group_batches_take_turns_and_hold_one_group_each():
    groups = torch.tensor([7] * 11 + [-2] * 5 + [3] * 3 + [0] * 20)[torch.randperm(39, generator=generator(1))]
    stream, passes = group_batches(groups, 4, generator(3)), []
    for _ in range(3):
        drawn = [next(stream) for _ in range(2 + 1 + 0 + 5)]  # floor(size / 4) of each group
        assert all(b.shape == (4,) and b.dtype == torch.int64 and len(groups[b].unique()) == 1 for b in drawn)
        assert [int(groups[b[0]]) for b in drawn] == [-2, 0, 7, 0, 7, 0, 0, 0]
        order = torch.cat(drawn).tolist()
        assert len(set(order)) == len(order)
        passes.append(tuple(order))
    assert len(set(passes)) == 3
    again = group_batches(groups, 4, generator(3))
    assert tuple(torch.cat([next(again) for _ in range(8)]).tolist()) == passes[0]


def test_one_group_gives_ordinary_batches():
    one, all_ = group_batches(torch.full((23,), 5), 4, generator(3)), batches(23, 4, generator(3))
    assert all(torch.equal(next(one), next(all_)) for _ in range(17))


@pytest.mark.parametrize("size", [0, 6])
def test_group_batches_refuse_sizes_that_no_group_fills(size):
    with pytest.raises(InputError, match=r"1\.\.5"):
        next(group_batches(torch.tensor([0, 1, 1, 1, 1, 1]), size, generator(0)))


def test_generator_streams_are_independent():
    draws = [torch.randn(4000, generator=generator(seed, stream=stream)) for seed in range(5) for stream in range(4)]
    for a, b in itertools.combinations(draws, 2):
        assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 5 / 4000 ** 0.5
    state = torch.get_rng_state()
    generator(1, stream=1)
    assert torch.get_rng_state().equal(state)


@pytest.mark.parametrize(("change", "message"), [
    ({"steps": 0}, "steps must be >= 1"), ({"lr": 0.0}, "lr > 0"), ({"lr": -1.0}, "lr > 0"),
    ({"warmup": 1.0}, "0 <= warmup < 1"), ({"warmup": -0.1}, "0 <= warmup < 1"),
    ({"optimizer": "adamm"}, "unknown optimizer 'adamm'; did you mean 'adam"),
    ({"precision": "bf16"}, "unknown precision 'bf16'"),
])
def test_bad_arguments_are_named_before_any_work(change, message):
    net = model()
    with pytest.raises(InputError, match=message):
        train(net, lambda _: 1 / 0, iter([]), **{"steps": 3, "lr": 0.1, **change})


@pytest.mark.parametrize("size", [0, 11, -1])
def test_bad_batch_sizes_are_named(size):
    with pytest.raises(InputError, match=rf"batch size must be in 1..10, the number of items, not {size}"):
        next(batches(10, size, generator(0)))


def dropping(dtype=torch.float64, norm=nn.LayerNorm):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 32), norm(32), nn.Dropout(0.5), nn.Tanh(), nn.Linear(32, 4), nn.Dropout(0.2)).to(dtype)


def gradients(value, net):
    net.zero_grad()
    value.backward()
    return [p.grad.clone() for p in net.parameters()]


def jittered(net, x, g):
    """A view drawn from a generator of its own, then the network."""
    return net(x + torch.randn(x.shape, generator=g, dtype=torch.float64).to(x))


def both_views(encode, x, g):
    """NT-Xent of two views, each encoded by `encode(x, generator)`."""
    torch.manual_seed(7)
    return losses.nt_xent(encode(x, g), encode(x, g), tau=0.2)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("size", [1, 5, 11, 40])
def test_pieces_give_the_gradient_of_the_whole_graph_with_dropout_and_views(size, dtype, rtol):
    net, x = dropping(dtype), data(dtype)[0][:11]
    found, after = [], []
    for kept in (True, False):
        def encode(x, g, kept=kept):
            if kept:
                return torch.cat([jittered(net, part, g) for part in x.split(size)])
            return in_pieces(lambda part: jittered(net, part, g), x, size=size, generators=(g,))
        g = generator(3)
        value = both_views(encode, x, g)
        found.append([value.detach(), *gradients(value, net)])
        after.append((torch.rand(1), torch.rand(1, generator=g)))
    for a, b in zip(*found, strict=True):
        assert (a - b).abs().max() <= rtol * a.abs().max()
    # the second pass leaves the random states as the first one did
    assert after[0] == after[1]


def test_pieces_give_the_gradient_of_one_large_batch_with_dropout():
    net, x, found = model(), data()[0], []

    def drop(x, g):
        # a number an entry, in order: the pieces draw together what the batch draws
        h = net[0](x)
        return net[3](net[2](h) * (torch.rand(h.shape, generator=g, dtype=torch.float64) < 0.7))

    for size in (16, 3):
        g1, g2 = generator(1), generator(2)
        z1, z2 = (in_pieces(lambda part, g=g: drop(part, g), x, size=size, generators=(g,)) if size < 16 else drop(x, g)
                  for g in (g1, g2))
        value = losses.nt_xent(z1, z2, tau=0.1)
        found.append([value.detach(), *torch.autograd.grad(value, [net[0].weight, net[3].weight])])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_draws_that_are_not_replayed_would_be_seen():
    net, x = model(), data()[0]
    g = generator(3)
    grads = []
    for named in ((g,), ()):
        g.manual_seed(5)
        value = both_views(lambda x, g, named=named: in_pieces(lambda part: jittered(net, part, g), x, size=4,
                                                               generators=named), x, g)
        grads.append(gradients(value, net)[0])
    assert (grads[0] - grads[1]).abs().max() > 1e-3 * grads[0].abs().max()


def test_two_encoders_and_a_learnt_temperature():
    image, text, x = dropping(), dropping(), data()[:2]
    log_tau = torch.zeros((), dtype=torch.float64, requires_grad=True)
    parameters, found = [*image.parameters(), *text.parameters(), log_tau], []
    parts = list(zip(x[0].split(6), x[1].split(6), strict=True))
    both = [lambda: [torch.cat(z) for z in zip(*((image(a), text(b)) for a, b in parts), strict=True)],
            lambda: in_pieces(lambda a, b: (image(a), text(b)), x[0], x[1], size=6)]
    one_by_one = [lambda: [torch.cat([net(a) for a in part.split(6)]) for net, part in ((image, x[0]), (text, x[1]))],
                  lambda: [in_pieces(net, part, size=6) for net, part in ((image, x[0]), (text, x[1]))]]
    for forms in (both, one_by_one):
        for form in forms:
            torch.manual_seed(1)
            value = losses.clip(*form(), tau=0.3 * log_tau.exp())
            found.append([value.detach(), *torch.autograd.grad(value, parameters)])
    for a, b in ((0, 1), (2, 3)):
        for u, v in zip(found[a], found[b], strict=True):
            torch.testing.assert_close(u, v, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("named", [True, False])
def test_batch_norm_sees_pieces_and_counts_them_once(named):
    x = data()[0]
    nets = [dropping(norm=nn.BatchNorm1d) for _ in range(2)]
    torch.manual_seed(4)
    value = losses.nt_xent(torch.cat([nets[0](part) for part in x.split(6)]), x[:, :4])
    expected = gradients(value, nets[0])
    torch.manual_seed(4)
    encode, modules = (lambda part: nets[1](part), nets[1:]) if named else (nets[1], ())
    again = losses.nt_xent(in_pieces(encode, x, size=6, modules=modules), x[:, :4])
    for a, b in zip(expected, gradients(again, nets[1]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    assert nets[1][1].num_batches_tracked == 3
    for a, b in zip(nets[0].buffers(), nets[1].buffers(), strict=True):
        assert a.equal(b)
    # statistics of the pieces are not those of the batch
    torch.manual_seed(4)
    assert not losses.nt_xent(dropping(norm=nn.BatchNorm1d)(x), x[:, :4]).isclose(value, rtol=1e-3)


def test_one_piece_at_a_time_is_held():
    alive, counts = set(), []

    class Watched(nn.Module):
        """Saves an array for its backward, and sees when it is let go: torch keeps the array that holds a tensor's memory."""

        def forward(self, x):
            kept = x.detach().cos().numpy()
            alive.add(id(kept))
            weakref.finalize(kept, alive.discard, id(kept))
            counts.append(len(alive))
            return x * torch.from_numpy(kept)

    net, x = nn.Sequential(nn.Linear(5, 4), Watched(), Watched()).double(), data()[0]
    losses.nt_xent(in_pieces(net, x, size=2), x[:, :4]).backward()
    # 8 pieces with two arrays each, in two passes; the next piece may begin before the last one is gone
    assert len(counts) == 32 and max(counts) <= 4
    losses.nt_xent(torch.cat([net(part) for part in x.split(2)]), x[:, :4]).backward()
    assert max(counts) >= 16


def test_pieces_in_the_training_loop():
    nets, histories = [dropping(torch.float32) for _ in range(2)], []
    for net, size in zip(nets, (16, 3), strict=True):
        torch.manual_seed(2)
        histories.append(train(net, lambda x, net=net, size=size: losses.nt_xent(
            in_pieces(net.eval(), x, size=size), x[:, :4]), iter(data(torch.float32)), steps=5, lr=0.01, precision="bfloat16"))
    assert histories[0] == pytest.approx(histories[1], rel=1e-3) and histories[0][0] != histories[0][-1]


@pytest.mark.parametrize(("inputs", "size", "message"), [
    ((torch.ones(4, 5),), 0, "size must be at least 1, not 0"), ((), 2, r"not of \[\]"),
    ((torch.ones(4, 5), [1, 2]), 2, r"one length, at least 1, not of \[4, 2\]"), ((torch.ones(0, 5),), 2, r"not of \[0\]"),
])
def test_bad_pieces_are_named(inputs, size, message):
    with pytest.raises(InputError, match=message):
        in_pieces(lambda *x: 1 / 0, *inputs, size=size)
