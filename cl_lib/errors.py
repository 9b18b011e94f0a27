"""Errors a user can act on: one line that says what is wrong and what is valid."""
import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input, found before work starts; the command line prints it without a traceback and exits with 2."""


def unknown(kind: str, name: object, valid: Iterable[str]) -> InputError:
    """An `InputError` for a name that is not among `valid`; shows the nearest one, or all of a short list."""
    valid = sorted(map(str, valid))
    near = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.5)
    if near:
        hint = f"did you mean {near[0]!r}?"
    elif len(valid) <= 12:
        hint = f"valid: {', '.join(valid) or 'none'}"
    else:
        hint = f"{len(valid)} are valid; see `python -m cl_lib list`"
    return InputError(f"unknown {kind} {str(name)!r}; {hint}")
