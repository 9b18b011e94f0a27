"""The pictures of a saved notebook: PNG files beside it, so that it stays small and its changes readable; pages get them back."""
import re
from base64 import b64decode, b64encode
from html import escape
from pathlib import Path

from cl_lib.errors import InputError

SOURCE = re.compile(r'<img src="(figures/[\w./-]+\.png)"')


def set_apart(notebook: dict, path: Path) -> None:
    """Move the PNGs among the outputs of the notebook at `path` to `figures/<name>/<cell>-<number>.png` beside it, in place.

    An output then shows its file, with the same alternative text and width. Files that no output shows are removed.
    """
    folder, shown = Path("figures") / path.stem, set()
    for cell in notebook["cells"]:
        for number, output in enumerate(filter(_picture, cell.get("outputs", ())), 1):
            data = output["data"]
            if "image/png" in data:
                name = (folder / f"{cell['id']}-{number}.png").as_posix()
                _write(path.parent / name, b64decode("".join(data.pop("image/png"))))
                about = output["metadata"]["image/png"]
                data["text/html"] = f'<img src="{name}" alt="{escape(about["alt"])}" width="{about["width"]}">'
            shown.add(path.parent / _source(output))
    for file in set((path.parent / folder).glob("*.png")) - shown:
        file.unlink()


def put_back(notebook: dict, path: Path) -> None:
    """The reverse of `set_apart`, in place: the pictures stand in the outputs, as Jupyter leaves them.

    Raises: InputError for a file that is not there.
    """
    for cell in notebook["cells"]:
        for output in filter(_picture, cell.get("outputs", ())):
            if "image/png" not in output["data"]:
                file = path.parent / _source(output)
                if not file.is_file():
                    raise InputError(f"{path}: cell {cell['id']} shows {file}, which is not there")
                del output["data"]["text/html"]
                output["data"]["image/png"] = b64encode(file.read_bytes()).decode()


def _picture(output: dict) -> bool:
    return "image/png" in output.get("data", {}) or _source(output) is not None


def _source(output: dict) -> str | None:
    """The file that an output shows, relative to its notebook."""
    found = SOURCE.match("".join(output.get("data", {}).get("text/html", "")))
    return found and found[1]


def _write(file: Path, png: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.is_file() or file.read_bytes() != png:
        file.write_bytes(png)
