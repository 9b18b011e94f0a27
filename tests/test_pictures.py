"""Pictures leave a notebook and come back the same; the saved notebooks of the book miss none and leave none behind."""
import copy
import json
from base64 import b64encode

import pytest

from cl_lib import papers, pictures
from cl_lib.errors import InputError
from cl_lib.papers import ROOT


def picture(png, alt='a "line" & more'):
    return {"output_type": "display_data", "data": {"image/png": b64encode(png).decode(), "text/plain": alt},
            "metadata": {"image/png": {"alt": alt, "width": 691}}}


def notebook(*outputs):
    text = {"output_type": "stream", "name": "stdout", "text": "words\n"}
    table = {"output_type": "display_data", "data": {"text/html": "<table></table>"}, "metadata": {}}
    return {"cells": [{"cell_type": "markdown", "id": "words", "source": "", "metadata": {}},
                      {"cell_type": "code", "id": "dcl-claim-1", "source": "", "metadata": {}, "outputs": [text, *outputs, table]}]}


def test_there_and_back(tmp_path):
    path, first = tmp_path / "book" / "objectives.ipynb", notebook(picture(b"one"), picture(b"two"))
    path.parent.mkdir()
    saved = copy.deepcopy(first)
    pictures.set_apart(saved, path)
    folder = path.parent / "figures/objectives"
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == {"dcl-claim-1-1.png": b"one", "dcl-claim-1-2.png": b"two"}
    html = saved["cells"][1]["outputs"][1]["data"]["text/html"]
    assert html == '<img src="figures/objectives/dcl-claim-1-1.png" alt="a &quot;line&quot; &amp; more" width="691">'
    assert "image/png" not in json.dumps([o["data"] for o in saved["cells"][1]["outputs"] if "data" in o])
    again = copy.deepcopy(saved)
    pictures.set_apart(again, path)
    assert again == saved
    pictures.put_back(saved, path)
    assert saved == first


def test_a_picture_that_is_shown_no_more_goes(tmp_path):
    path = tmp_path / "objectives.ipynb"
    pictures.set_apart(notebook(picture(b"one"), picture(b"two")), path)
    pictures.set_apart(notebook(picture(b"three")), path)
    assert {f.name: f.read_bytes() for f in (tmp_path / "figures/objectives").iterdir()} == {"dcl-claim-1-1.png": b"three"}


def test_a_missing_file_is_named(tmp_path):
    path, saved = tmp_path / "objectives.ipynb", notebook(picture(b"one"))
    pictures.set_apart(saved, path)
    (tmp_path / "figures/objectives/dcl-claim-1-1.png").unlink()
    with pytest.raises(InputError, match="cell dcl-claim-1 shows .*dcl-claim-1-1.png, which is not there"):
        pictures.put_back(saved, path)


@pytest.mark.parametrize("path", [pytest.param(ROOT / nb.path, id=nb.name) for part in papers.book() for nb in part.notebooks
                                  if (ROOT / nb.path).exists()])
def test_saved_notebooks_show_what_stands_beside_them(path):
    content = json.loads(path.read_text(encoding="utf8"))
    assert '"image/png": "' not in path.read_text(encoding="utf8")
    shown = {path.parent / pictures._source(o) for c in content["cells"] for o in c.get("outputs", ()) if pictures._picture(o)}
    assert shown and shown == set((path.parent / "figures" / path.stem).glob("*.png"))
    pictures.put_back(content, path)
