"""The documents and the blocks of code in them."""

import dataclasses
import pathlib
import re
import textwrap

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = sorted(ROOT.glob("*.md")) + PAGES
DOCUMENTS += sorted(ROOT.glob("keras_spot/backbones/presets/*/*.md"))
DOCUMENTS += sorted(ROOT.glob("examples/**/README.md"))

_FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]*) -->\n+)?"
    r'^(?P<indent> *)```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n'
    r"(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: "python", "bash", "yaml", ...
        code: its text, without indentation.
        title: the file that it shows, if it has a title.
        reason: why it is not run, if it is not.
    """

    language: str
    code: str
    title: str | None = None
    reason: str | None = None


def name(document):
    """Return a document's path from the root, for test ids."""
    return str(document.relative_to(ROOT))


def blocks(document, language=None):
    """Return the fenced blocks of a document, of one language if one is given."""
    text = document.read_text(encoding="utf-8")
    every = [
        Block(m["language"], textwrap.dedent(m["code"]), m["title"], m["reason"])
        for m in _FENCE.finditer(text)
    ]
    return [block for block in every if language in (None, block.language)]
