"""Docstrings as the documentation shows them: examples at the prompt become blocks of code.

An extension of Griffe, which reads the docstrings for mkdocstrings (see `zensical.toml`).
"""

import re

import griffe

# Lines from a prompt to the next blank line.
_CALL = re.compile(r"^(?P<head> *Call arguments.*:)\n(?P<lines>(?: +\S.*\n?)+)", re.MULTILINE)
_EXAMPLE = re.compile(r"^(?P<indent> *)>>> .*(?:\n(?P=indent)\S.*|\n(?P=indent) .*)*", re.MULTILINE)


def fenced(text: str) -> str:
    """Return a docstring with its examples in fences, and the arguments of calls as a list.

    >>> print(fenced("Sum.\\n\\n>>> 1 + 1\\n2\\n\\nDone."))
    Sum.
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    <BLANKLINE>
    Done.
    """
    text = _CALL.sub(lambda m: f"{m['head']}\n\n{_listed(m['lines'])}", text)
    return _EXAMPLE.sub(lambda m: f"{m['indent']}```pycon\n{m[0]}\n{m['indent']}```", text)


def _listed(lines: str) -> str:
    """Return `name: text` lines as a list."""
    return re.sub(r"^ {4}(\w+): ", r"- `\1`: ", lines, flags=re.MULTILINE)


class Doctests(griffe.Extension):
    """Fence the examples of every docstring that is read."""

    def on_object(self, *, obj: griffe.Object, **options: object) -> None:
        """Fence those of one object."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)
