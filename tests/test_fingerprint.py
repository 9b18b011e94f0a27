"""The code hash moves with what a measurement reaches, and with nothing else."""
import ast
import textwrap

import pytest

from cl_lib import fingerprint

SETUP = "from cl_lib.losses import nt_xent\nimport torch\nwidth = 3\ndef helper(x):\n    return x * width\nother = 5\n"
CELL = "def measure(seed, device, n):\n    '''Words.'''\n    return {'loss': nt_xent(helper(n), n)}  # a remark\n"


def hashed(setup=SETUP, cell=CELL):
    return fingerprint.code_hash([setup], [cell])


@pytest.mark.parametrize(("setup", "cell"), [
    (SETUP.replace("other = 5", "other = 6"), CELL),
    (SETUP, CELL.replace("Words", "Other words").replace("# a remark", "")),
    (SETUP, CELL.replace("seed, device, n", "seed,device,  n")),
    (SETUP + "\nunused = 1\n", CELL),
    (SETUP, "import math\n" + CELL),
    (SETUP, CELL + "import math\n"),
])
def test_what_does_not_matter(setup, cell):
    assert hashed(setup, cell) == hashed()


@pytest.mark.parametrize(("setup", "cell"), [
    (SETUP.replace("width = 3", "width = 4"), CELL),
    (SETUP.replace("x * width", "x + width"), CELL),
    (SETUP, CELL.replace("helper(n), n", "n, helper(n)")),
    (SETUP.replace("nt_xent", "dcl as nt_xent"), CELL),
])
def test_what_matters(setup, cell):
    assert hashed(setup, cell) != hashed()


def test_names_that_a_function_binds_itself_are_its_own():
    cell = "def measure(seed, device, other):\n    return {'loss': sum(width for width in range(other))}\n"
    assert hashed(SETUP.replace("width = 3", "width = 4").replace("other = 5", "other = 6"), cell) == hashed(cell=cell)
    reached = "def measure(seed, device):\n    global other\n    other = other + 1\n    return {'loss': other}\n"
    assert hashed(SETUP.replace("other = 5", "other = 6"), reached) != hashed(cell=reached)
    inner = "def measure(seed, device):\n    def f(other):\n        return width\n    return {'loss': f(1)}\n"
    assert hashed(SETUP.replace("width = 3", "width = 4"), inner) != hashed(cell=inner)


@pytest.mark.parametrize(("cpu", "smoke", "same"), [(300, 20, True), (400, 10, False)])
def test_smoke_sizes_are_no_evidence(cpu, smoke, same):
    before, after = (CELL + f"steps = run.pick(smoke={s}, cpu={c})\n" for s, c in ((10, 300), (smoke, cpu)))
    assert (hashed(cell=before) == hashed(cell=after)) == same


def edited(monkeypatch, module, old, new):
    source = (fingerprint.HERE / f"{module.replace('.', '/')}.py").read_text()
    assert source.count(old) >= 1
    real = fingerprint._module
    changed = fingerprint._Scope(f"cl_lib.{module}", ast.parse(source.replace(old, new, 1)))
    monkeypatch.setattr(fingerprint, "_module", lambda name: changed if name == f"cl_lib.{module}" else real(name))


def test_library_code_counts_only_where_it_is_reached(monkeypatch):
    before = hashed()
    with monkeypatch.context() as patch:
        edited(patch, "losses.contrastive", "(log_partition(z, z, tau, skip=own[:, None], method=method) - (z * z[twin])",
               "2 * (log_partition(z, z, tau, skip=own[:, None], method=method) - (z * z[twin])")
        assert hashed() != before
    with monkeypatch.context() as patch:
        edited(patch, "losses.contrastive", "checks.temperature(tau, 2 * len(z1))", "checks.temperature(2 * tau, len(z1))")
        assert hashed() != before, "reached through nt_xent"
    with monkeypatch.context() as patch:
        edited(patch, "losses.streaming", "e.sub_(shift).exp_()", "e.exp_()")
        assert hashed() == before, "behind log_partition, which is pinned"
    with monkeypatch.context() as patch:
        edited(patch, "losses.contrastive", "@pinned(1)\ndef log_partition", "@pinned(2)\ndef log_partition")
        assert hashed() != before, "the number of a pinned function counts"
    with monkeypatch.context() as patch:
        edited(patch, "losses.contrastive", "2 - len(z) * torch.softmax", "3 - len(z) * torch.softmax")
        assert hashed() == before, "dcl is not reached"
    with monkeypatch.context() as patch:
        edited(patch, "losses.contrastive", "Each query picks its own key", "Words")
        assert hashed() == before, "docstrings do not count"


def test_modules_reached_by_attribute():
    by_name = "from cl_lib import losses\n"
    a = fingerprint.code_hash([by_name], ["f = losses.nt_xent\n"])
    b = fingerprint.code_hash([by_name], ["f = losses.dcl\n"])
    assert a != b


def test_presentation_does_not_count():
    cell = "run = experiment.start('objectives', tier='cpu')\n"
    text = textwrap.dedent("from cl_lib import experiment\n")
    reached = {}
    scope = fingerprint._Scope("<cell>", ast.parse(text + cell))
    fingerprint._follow(scope.tree, scope, reached)
    assert not any(name.startswith("cl_lib.experiment") for name in reached)
