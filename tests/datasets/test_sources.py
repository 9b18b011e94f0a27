"""Where files come from: the checksum decides, mirrors in order, whole files or none, made once."""
import ast
import errno
import hashlib
import io
import multiprocessing
import os
import tarfile
import time
import zipfile
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from threading import Thread

import pytest
import torch

import cl_lib
from cl_lib.datasets import sources
from cl_lib.datasets.sources import DataError, File, Mirror, available, cached, locate
from cl_lib.errors import InputError

BODY = b"the right bytes" * 1000
SUM = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty cache, data folder and bundle of the test's own; kinds of mirrors that give what their name says."""
    for name in ("cache", "data", "bundled"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("CL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CL_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(sources, "BUNDLED", tmp_path / "bundled")
    monkeypatch.setattr(sources, "_used", {})
    monkeypatch.setattr(sources, "FETCH", {"fake": partial(fake, tmp_path / "asked")})
    return tmp_path


def fake(asked, mirror, folder, pause=0.0):
    with open(asked, "a") as log:
        log.write(f"{mirror.name}\n")
    time.sleep(pause)
    out = folder / "out"
    out.write_bytes({"good": BODY, "wrong": BODY[::-1], "cut": BODY[:-1]}.get(mirror.name, b""))
    if mirror.name == "away":
        raise ConnectionError("no route to host")
    if mirror.name == "broken client":
        raise RuntimeError("cannot speak\nto it")
    if mirror.name == "full":
        raise OSError(errno.ENOSPC, "No space left on device")
    return out


def file(*mirrors):
    return File("a file", SUM, tuple(Mirror("fake", m) if isinstance(m, str) else m for m in mirrors), "It is small.")


def left(store):
    return sorted(p.name for p in (store / "cache").rglob("*") if p.is_file() and p.suffix != ".lock")


def test_mirrors_are_tried_in_order_and_the_file_is_kept(store):
    f = file("away", "broken client", "good", "never asked")
    assert not available(f) and not (store / "asked").exists()
    path, mirror = locate(f)
    assert path.read_bytes() == BODY and mirror.name == "good" and sources.used() == {"a file": SUM}
    assert (store / "asked").read_text().split("\n")[:-1] == ["away", "broken client", "good"]
    assert available(f) and locate(f, download=False)[0] == path and left(store) == [path.name]
    assert len((store / "asked").read_text().split("\n")) == 4


def test_what_each_mirror_said_is_told(store):
    f = file(Mirror("bundled"), Mirror("folder", "b/c"), "away", "broken client")
    with pytest.raises(DataError) as error:
        locate(f)
    assert str(error.value) == (
        "a file is not to be had: not bundled; CL_DATA has no b/c; away: no route to host; "
        "broken client: RuntimeError: cannot speak. It is small. A folder that holds it can be named in CL_DATA.")
    with pytest.raises(DataError, match="away: not fetched; good: not fetched"):
        locate(file("away", "good"), download=False)
    assert left(store) == []


@pytest.mark.parametrize("name", ["wrong", "cut"])
def test_a_wrong_or_truncated_download_is_refused_and_not_kept(store, name):
    found = hashlib.sha256({"wrong": BODY[::-1], "cut": BODY[:-1]}[name]).hexdigest()
    with pytest.raises(DataError, match=f"a file from {name} .* sha256 {SUM} was expected, {found} came"):
        locate(file(name))
    assert left(store) == [] and sources.used() == {}


@pytest.mark.parametrize(("kind", "folder"), [("bundled", "bundled"), ("folder", "data")])
def test_a_file_at_hand_is_checked(store, kind, folder):
    f = file(Mirror(kind, "x.bin"), "good")
    path = store / folder / "x.bin"
    path.write_bytes(BODY[:-1])
    found = hashlib.sha256(BODY[:-1]).hexdigest()
    with pytest.raises(DataError, match=f"x.bin is not .* {SUM} was expected, {found} came; restore it"):
        locate(f)
    path.write_bytes(BODY)
    assert locate(f) == (path, f.mirrors[0]) and not (store / "asked").exists()


def test_a_file_spoilt_in_the_cache_is_noticed_by_the_next_process(store, monkeypatch):
    path, _ = locate(file("good"))
    path.write_bytes(BODY[:100])
    monkeypatch.setattr(sources, "_used", {})
    with pytest.raises(DataError, match="was expected, .* came; delete it and try again"):
        locate(file("good"))


def test_a_mirror_may_have_a_checksum_of_its_own(store):
    other = Mirror("fake", "wrong", sha256=hashlib.sha256(BODY[::-1]).hexdigest())
    path, _ = locate(file("away", other))
    assert path.read_bytes() == BODY[::-1] and sources.used()["a file"] == other.sha256


@pytest.mark.parametrize("name", ["full", "good"])
def test_a_full_or_read_only_disk_ends_the_search(store, monkeypatch, name):
    if name == "good":
        def refuse(*_):
            raise OSError(errno.EROFS, "Read-only file system")
        monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(DataError, match="cache/files: cannot keep a file there: (No space|Read-only).*; CL_CACHE"):
        locate(file(name, "good"))
    assert left(store) == [] and (store / "asked").read_text() == f"{name}\n"


def test_unknown_kinds_and_missing_members_are_told_apart(store, monkeypatch):
    with pytest.raises(InputError, match="unknown kind of mirror 'fakee'; did you mean 'fake'"):
        locate(file(Mirror("fakee", "x")))

    def without(mirror, folder):
        with zipfile.ZipFile(folder / "a.zip", "w") as z:
            z.writestr("b", "c")
        return sources._member(folder / "a.zip", mirror.member, folder)

    monkeypatch.setitem(sources.FETCH, "fake", without)
    with pytest.raises(DataError, match="x: KeyError: .*no item named 'data/x'"):
        locate(file(Mirror("fake", "x", "data/x")))


def at_once(target, *arguments):
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=target, args=arguments) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
    assert [job.exitcode for job in jobs] == [0, 0]


def fetch_and_check(f):
    assert locate(f)[0].read_bytes() == BODY


def test_two_processes_fetch_once(store, monkeypatch):
    monkeypatch.setitem(sources.FETCH, "fake", partial(fake, store / "asked", pause=0.5))
    at_once(fetch_and_check, file("good"))
    assert (store / "asked").read_text() == "good\n" and len(left(store)) == 1


def test_urls_are_fetched_and_members_taken_out(store, monkeypatch):
    monkeypatch.setitem(sources.FETCH, "url", sources._url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with tarfile.open(store / "data/a.tar.gz", "w:gz") as t:
        entry = tarfile.TarInfo("in/x.bin")
        entry.size = len(BODY)
        t.addfile(entry, io.BytesIO(BODY))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(store / "data")))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        path, mirror = locate(file(Mirror("url", f"{address}/none"), Mirror("url", f"{address}/a.tar.gz", "in/x.bin")))
    finally:
        server.shutdown()
        server.server_close()
    assert path.read_bytes() == BODY and mirror.member == "in/x.bin" and left(store) == [path.name]


def tensors(log=None, pause=0.0):
    if log:
        with open(log, "a") as file:
            file.write("made\n")
    time.sleep(pause)
    return {"x": torch.arange(12.0).view(3, 4).T, "y": torch.tensor([1, 2], dtype=torch.int8), "z": torch.zeros(0, 3)}


def same(a, b):
    return a.keys() == b.keys() and all(a[k].equal(b[k]) and a[k].dtype == b[k].dtype for k in a)


def test_cached_makes_once_and_keeps_apart_what_depends_on_other_things(store):
    log = store / "made"
    assert same(cached("k", lambda: tensors(log), of="one"), tensors())
    assert same(cached("k", lambda: 1 / 0, of="one"), tensors())
    cached("k", lambda: tensors(log), of="two")
    assert log.read_text() == "made\n" * 2 and len(left(store)) == 2 and len(sources.used()) == 2


@pytest.mark.parametrize("spoil", [lambda b: b[:-1], lambda b: b[:10], lambda b: b"", lambda b: b[64:],
                                   lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_cached_notices_a_spoilt_file_and_makes_it_again(store, spoil):
    cached("k", tensors)
    (path,) = (store / "cache/derived").glob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))
    assert same(cached("k", tensors), tensors()) and path.read_bytes() == whole


def make_slowly(log):
    assert same(cached("k", lambda: tensors(log, 0.5)), tensors())


def test_two_processes_make_once(store):
    at_once(make_slowly, store / "made")
    assert (store / "made").read_text() == "made\n" and len(left(store)) == 1


@pytest.mark.parametrize("place", ["write", "replace", "folder"])
def test_cached_says_where_it_cannot_write(store, monkeypatch, place):
    def full(self, *_):
        if place != "folder" or "derived" in str(self):
            if place == "write":
                open(self, "wb").close()  # a file that is there and empty
            raise OSError(errno.ENOSPC, "No space left on device")

    owner, name = {"write": (Path, "write_bytes"), "replace": (os, "replace"), "folder": (Path, "mkdir")}[place]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, lambda self, *a, **k: full(self, *a))
        with pytest.raises(DataError, match="derived: cannot keep k there: No space left on device; CL_CACHE names"):
            cached("k", tensors)
    assert left(store) == [] and sources.used() == {}
    assert same(cached("k", tensors), tensors())


def test_what_fails_while_making_is_not_taken_for_a_full_disk(store):
    def make():
        raise FileNotFoundError(2, "No such file", "source")

    with pytest.raises(FileNotFoundError, match="source"):
        cached("k", make)
    assert left(store) == [] and same(cached("k", tensors), tensors())


def test_nothing_is_unpickled():
    found = []
    for path in Path(cl_lib.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None)]
            if any(n in ("pickle", "cloudpickle", "dill", "shelve", "marshal") for n in names):
                found.append(f"{path.name}:{node.lineno}: import")
            if isinstance(node, ast.Call):
                call = ast.unparse(node)
                if call.startswith(("torch.load", "joblib.load", "pickle.")) or "read_pickle" in call or (
                        call.startswith(("np.load(", "numpy.load(")) and "allow_pickle=False" not in call):
                    found.append(f"{path.name}:{node.lineno}: {call}")
    assert found == []
