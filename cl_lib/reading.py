"""Reading aids that are put into a chapter's text when it is staged: glossary links, numbered equations, how long it takes."""
import re

WORDS_A_MINUTE, LINES_A_MINUTE = 200, 25
# What stays as it is: code, formulas, links, roles, HTML, headings, lines of a table, directives.
KEPT = re.compile(r"""(^```.*?^```[^\n]*$|^:::.*?^:::[^\n]*$|\$\$.*?\$\$|\{[\w:-]+\}`[^`]*`|`[^`\n]+`|\$[^$\n]+\$|\[[^\]]*\]\([^)]*\)
                  |^<[^\n]*$|<[^>]+>|^\#[^\n]*$|^\|[^\n]*$|^\([\w-]+\)=$|https?://\S+|\*\*[^*\n]+\*\*)""", re.M | re.S | re.X)
AMBIGUOUS = {"contrast"}  # everyday words on these pages, whose glossary meaning is a special one
NOT_BEFORE = r"(?!\s+(?:controls?|numbers?|values?|definite|log|likelihood)\b)"  # "positive control" is no positive
EQUATION = re.compile(r"(^\$\$.*?\$\$)[ \t]*$", re.M | re.S)


def terms(glossary: str) -> list[str]:
    """The terms of a glossary page, as they stand there."""
    blocks = re.findall(r"^:::\{glossary\}\n(.*?)^:::", glossary, re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line and not line[0].isspace()]


def link_terms(source: str, open_terms: dict[str, re.Pattern]) -> str:
    """`source` with each of `open_terms` linked to the glossary where it first stands in plain text; linked ones are taken out."""
    for term in [t for t in open_terms if re.search(rf"\{{term\}}`(?:[^`]*<)?{re.escape(t)}>?`", source)]:
        del open_terms[term]  # its author has linked it
    pieces = KEPT.split(source)
    for i in range(0, len(pieces), 2):
        for term in sorted(open_terms, key=len, reverse=True):
            match = next((m for m in open_terms[term].finditer(pieces[i]) if not _within_link(pieces[i], m)), None)
            if match:
                word = match[0] if match[0] == term else f"{match[0]} <{term}>"
                pieces[i] = f"{pieces[i][:match.start()]}{{term}}`{word}`{pieces[i][match.end():]}"
                del open_terms[term]
    return "".join(pieces)


def _within_link(piece: str, match: re.Match) -> bool:
    """Whether a match stands inside a link that this very pass has made."""
    return piece.count("`", 0, match.start()) % 2 == 1


def patterns(names: list[str]) -> dict[str, re.Pattern]:
    """How each term is found: as a word or its plural, on one line or over its end, in any case unless it has capitals of its own."""
    def pattern(term: str) -> re.Pattern:
        words = r"\s+".join(map(re.escape, term.split()))
        return re.compile(rf"(?<![\w-]){words}s?(?![\w-]){NOT_BEFORE}", 0 if term != term.lower() else re.I)

    return {term: pattern(term) for term in names if term not in AMBIGUOUS}


def number_equations(source: str, name: str, first: int) -> tuple[str, int]:
    """`source` with a label `name-eq-<n>` after each displayed equation that has none, and the next free number."""
    count = first

    def label(match: re.Match) -> str:
        nonlocal count
        count += 1
        return f"{match[1]} ({name}-eq-{count - 1})"

    return EQUATION.sub(label, source), count


def minutes(cells: list[dict]) -> int:
    """How long a chapter takes to read: its words, and its code at a slower pace."""
    text = " ".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    lines = sum("".join(c["source"]).count("\n") + 1 for c in cells if c["cell_type"] == "code")
    return max(1, round(len(text.split()) / WORDS_A_MINUTE + lines / LINES_A_MINUTE))
