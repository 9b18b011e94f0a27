"""Generated texts side by side, as a table on the page, with what repeats marked."""
from collections.abc import Mapping
from html import escape

from IPython.display import display


def show(texts: Mapping[str, str], *, n: int = 3, begun: str = "") -> None:
    """A row a text: its name, and the text with every word marked that ends a run of n words which stood in it before.

    `begun`, the prompt that all of them go on from, stands above. A terminal prints it with the marked words in capitals.
    """
    parts = {name: _parts(text.split(), n) for name, text in texts.items()}
    style = "background: rgba(209, 80, 15, .28); color: inherit; border-radius: 2px"
    rows = "".join(f'<tr><th style="text-align: left; vertical-align: top; white-space: nowrap; padding-right: 1em">{escape(name)}</th><td style="text-align: left">'
                   + " ".join(f'<mark style="{style}">{escape(word)}</mark>' if again else escape(word) for word, again in words) + "</td></tr>"
                   for name, words in parts.items())
    head = f'<caption style="text-align: left; caption-side: top; color: inherit"><em>{escape(begun)}</em> ...</caption>' if begun else ""
    plain = "\n".join([f"{begun} ...", *(f"{name}: " + " ".join(w.upper() if again else w for w, again in words) for name, words in parts.items())])
    display({"text/html": f"<table>{head}{rows}</table>", "text/plain": plain}, raw=True)


def _parts(words: list[str], n: int) -> list[tuple[str, bool]]:
    """Each word, and whether the run of n words that it ends has come before."""
    seen, out = set(), []
    for i, word in enumerate(words):
        run = tuple(words[i - n + 1:i + 1]) if i >= n - 1 else None
        out.append((word, run in seen))
        if run:
            seen.add(run)
    return out
