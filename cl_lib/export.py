"""One chapter as a single file: pictures, style and the renderer of formulas inside it, no other file and no network needed."""
import importlib.util
from base64 import b64encode
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup

from cl_lib.errors import InputError
from cl_lib.papers import ROOT, Notebook

STYLES = ("pygments.css", "book.css")
LOOK = """
:root { color-scheme: light; --pst-color-border: #ccd2d8; --pst-color-text-base: #1f2933; --pst-color-text-muted: #55606c;
  --pst-color-surface: #f4f6f8; --pst-color-background: #fff; --pst-color-primary: #0067ac; }
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; font: 17px/1.55 system-ui, sans-serif; color: #1f2933; }
pre { overflow-x: auto; background: #f4f6f8; padding: .6em .8em; font-size: .82em; line-height: 1.4; }
img { max-width: 100%; } table { border-collapse: collapse; } td, th { padding: .2em .6em; border-bottom: 1px solid #ccd2d8; }
.admonition { border-left: 4px solid #ccd2d8; padding: .1em 1em; margin: 1em 0; } .eqno { float: right; color: #55606c; }
"""
UNNEEDED = ".headerlink, .run-box, .copybtn, .prev-next-area, script"


def chapter(nb: Notebook, site: Path = ROOT / "build" / "site", out: Path | None = None) -> Path:
    """Write the built page of a chapter as one file, and return its path, by default `build/<notebook>.html`.

    Raises: InputError when the page has not been built.
    """
    page = site / nb.part / f"{nb.name}.html"
    if not page.is_file():
        raise InputError(f"{page}: not built yet; run `python -m cl_lib report` first")
    article = BeautifulSoup(page.read_text(encoding="utf8"), "html.parser").select_one("article.bd-article")
    for element in article.select(UNNEEDED):
        element.decompose()
    for image in article.find_all("img"):
        data = b64encode((page.parent / unquote(image["src"])).read_bytes()).decode()
        image["src"] = f"data:image/{Path(image['src']).suffix[1:]};base64,{data}"
    for link in article.find_all("a", href=True):
        if not urlsplit(link["href"]).netloc and not link["href"].startswith("#"):
            link.unwrap()  # leads to another page of the book, which is not here
    style = LOOK + "".join((site / "_static" / name).read_text(encoding="utf8") for name in STYLES)
    out = out or site.parent / f"{nb.name}.html"
    out.write_text(f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
                   f"<title>{nb.title}</title><style>{style}</style><script>{_formulas()}</script></head>"
                   f"<body><main>{article}</main></body></html>\n", encoding="utf8")
    return out


def _formulas() -> str:
    """MathJax in its one-file form, which draws formulas without any font."""
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    code = (Path(spec.origin).parent / "static" / "mathjax" / "tex-svg.js").read_text(encoding="utf8")
    settings = 'window.MathJax = {options: {enableMenu: false, processHtmlClass: "math"}};'
    return settings + code.replace("</script", "<\\/script")
