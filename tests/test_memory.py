import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cl_lib.errors import InputError
from cl_lib.memory import EMATeacher, PrototypeBank, Queue


def rows(n, d=3, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("sizes", [[2, 2, 2, 2], [3, 3, 3], [5], [7], [12], [1, 5, 11, 2, 4], [4, 1, 5, 5, 3]])
def test_queue_holds_the_last_keys_in_order(sizes, normalize):
    queue, history, labels = Queue(5, 3, normalize=normalize, labels=True), [], []
    for i, n in enumerate(sizes):
        z, y = rows(n, seed=i), torch.arange(n) + 100 * i
        queue.push(z, y)
        history += list(F.normalize(z, dim=1) if normalize else z)
        labels += y.tolist()
        held = min(5, len(history))
        assert len(queue) == held and queue.labels().tolist() == labels[-held:]
        assert queue.keys().equal(torch.stack(history[-held:]))


def test_queue_starts_empty_or_with_random_unit_keys():
    assert Queue(5, 3).keys().shape == (0, 3)
    full = Queue(5, 3, labels=True, seed=1)
    start = full.keys()
    assert len(full) == 5 and torch.allclose(start.norm(dim=1), torch.ones(5)) and full.labels().tolist() == [-1] * 5
    assert start.equal(Queue(5, 3, seed=1).keys()) and not start.equal(Queue(5, 3, seed=2).keys())
    full.push(rows(2), torch.tensor([7, 8]))
    assert full.keys()[:3].equal(start[2:]) and full.labels().tolist() == [-1, -1, -1, 7, 8]


def test_queue_takes_no_gradient_and_what_was_read_stays():
    queue, z = Queue(4, 3, seed=0), rows(2).requires_grad_()
    before = queue.keys()
    copy = before.clone()
    loss = (z @ before.T).sum()
    queue.push(z)
    loss.backward()
    assert not queue.keys().requires_grad and before.equal(copy) and torch.allclose(z.grad, copy.sum(0).expand(2, 3))


def test_queue_state_survives_saving():
    queue, other = Queue(5, 3, labels=True), Queue(5, 3, labels=True, seed=9)
    queue.push(rows(7), torch.arange(7))
    other.load_state_dict(queue.state_dict())
    for q in (queue, other):
        q.push(rows(2, seed=1), torch.tensor([70, 71]))
    assert other.keys().equal(queue.keys()) and other.labels().tolist() == [4, 5, 6, 70, 71]


@pytest.mark.parametrize("call, message", [
    (lambda: Queue(0, 3), "size must be"), (lambda: Queue(3, 2.5), "d must be"), (lambda: Queue(3, 2).push(rows(2)), "z has 3"),
    (lambda: Queue(3, 3).push(rows(2), torch.arange(2)), "keeps no labels"), (lambda: Queue(3, 3).labels(), "keeps no labels"),
    (lambda: Queue(3, 3, labels=True).push(rows(2)), "y is missing"), (lambda: Queue(3, 3).push(rows(2) / 0), "z holds NaN"),
    (lambda: Queue(3, 3, labels=True).push(rows(2), torch.arange(3)), "y must be"), (lambda: Queue(3, 3).push(rows(0)), "z has 0"),
])
def test_queue_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)).double()


def disturb(student, seed):
    """Other weights and other running statistics."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in student.parameters():
            p.add_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
    student.train()(rows(8, seed=seed).double())


@pytest.mark.parametrize("schedule, steps", [("constant", None), ("cosine", 4)])
def test_teacher_is_the_moving_average_by_hand(schedule, steps):
    student = net()
    teacher = EMATeacher(student, momentum=0.9, schedule=schedule, steps=steps)
    expected = {name: p.detach().clone() for name, p in student.named_parameters()}
    for k in range(6):
        m = 0.9 if steps is None else 1 - 0.1 * (math.cos(math.pi * min(k, 4) / 4) + 1) / 2
        assert teacher.momentum == pytest.approx(m, abs=1e-15)
        disturb(student, k)
        teacher.update(student)
        for name, p in student.named_parameters():
            expected[name] = m * expected[name] + (1 - m) * p.detach()
    for name, p in teacher.model.named_parameters():
        assert torch.allclose(p, expected[name], rtol=1e-12, atol=1e-12) and not p.requires_grad
    for own, other in zip(teacher.model.buffers(), student.buffers()):
        assert own.equal(other) and own is not other


def test_teacher_at_momentum_zero_and_one():
    student = net()
    copy, fixed = EMATeacher(student, momentum=0), EMATeacher(student, momentum=1)
    start = {name: p.clone() for name, p in fixed.model.named_parameters()}
    disturb(student, 0)
    copy.update(student)
    fixed.update(student)
    assert all(p.equal(q) for p, q in zip(copy.model.parameters(), student.parameters()))
    assert all(p.equal(start[name]) for name, p in fixed.model.named_parameters())
    x = rows(5).double()
    student.eval(), copy.eval()
    assert copy(x).equal(student(x)) and not copy(x).requires_grad and student(x).requires_grad


def test_teacher_leaves_the_student_alone():
    student = net()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    teacher = EMATeacher(student, momentum=0.5)
    teacher.update(student)
    teacher(rows(8).double())
    assert all(value.equal(before[name]) for name, value in student.state_dict().items())
    assert all(p.requires_grad for p in student.parameters())


def test_teacher_state_survives_saving():
    student = net()
    teacher, other = (EMATeacher(student, momentum=0.9, schedule="cosine", steps=8) for _ in range(2))
    disturb(student, 0)
    teacher.update(student)
    other.load_state_dict(teacher.state_dict())
    assert other.momentum == teacher.momentum != 0.9
    assert all(p.equal(q) for p, q in zip(other.model.parameters(), teacher.model.parameters()))


@pytest.mark.parametrize("call, message", [
    (lambda: EMATeacher(net(), momentum=1.1), "momentum must be"), (lambda: EMATeacher(net(), schedule="cosin"), "did you mean 'cosine'"),
    (lambda: EMATeacher(net(), schedule="cosine"), "steps belongs"), (lambda: EMATeacher(net(), steps=3), "steps belongs"),
    (lambda: EMATeacher(net(), schedule="cosine", steps=0), "steps must be"),
    (lambda: EMATeacher(net()).update(nn.Linear(3, 4)), "student has other"),
    (lambda: EMATeacher(nn.Linear(3, 4)).update(nn.Linear(3, 5)), "student has other"),
])
def test_teacher_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("normalize", [True, False])
def test_bank_is_the_loop(normalize):
    bank, expected = PrototypeBank(4, 3, momentum=0.7, normalize=normalize), {}
    for step, index in enumerate([[2, 0, 2], [0, 2, 2, 2, 3], [3], [0, 0]]):
        z = rows(len(index), seed=step)
        bank.update(torch.tensor(index), z)
        z = F.normalize(z, dim=1) if normalize else z
        for i in set(index):
            new = sum(z[j] for j in range(len(index)) if index[j] == i) / index.count(i)
            new = 0.7 * expected[i] + 0.3 * new if i in expected else new
            expected[i] = new / new.norm() if normalize else new
    for i in range(4):
        assert torch.allclose(bank.rows[i], expected.get(i, torch.zeros(3)), atol=1e-6)
    assert bank.seen.tolist() == [True, False, True, True]


def test_bank_without_momentum_holds_the_class_means_and_survives_saving():
    y, z = torch.tensor([1, 0, 1, 1]), rows(4).requires_grad_()
    bank, other = (PrototypeBank(2, 3, momentum=0.0, normalize=False) for _ in range(2))
    bank.update(torch.tensor([0, 1]), rows(2, seed=1))
    bank.update(y, z)
    assert torch.allclose(bank.rows, torch.stack([z[1], (z[0] + z[2] + z[3]) / 3]), atol=1e-6) and not bank.rows.requires_grad
    other.load_state_dict(bank.state_dict())
    assert other.rows.equal(bank.rows) and other.seen.all()


@pytest.mark.parametrize("call, message", [
    (lambda: PrototypeBank(0, 3), "n must be"), (lambda: PrototypeBank(2, 3, momentum=1), "momentum must be"),
    (lambda: PrototypeBank(2, 3).update(torch.tensor([0, 2]), rows(2)), "index must be in 0..1, not 0..2"),
    (lambda: PrototypeBank(2, 3).update(torch.tensor([-1]), rows(1)), "index must be in 0..1"),
    (lambda: PrototypeBank(2, 4).update(torch.tensor([1]), rows(1)), "z has 3 dimensions, the bank 4"),
    (lambda: PrototypeBank(2, 3).update(torch.tensor([1, 0]), rows(1)), "index must be an integer tensor"),
])
def test_bank_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
