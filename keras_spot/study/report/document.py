"""What a report consists of, whatever it is written as: sections of texts, tables and pictures."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Block", "Document", "Facts", "Paragraph", "Pictures", "Points", "Section", "Table"]


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """A text.

    Attributes:
        text: its sentences.
        important: whether it is the answer that the report is read for.
    """

    text: str
    important: bool = False


@dataclasses.dataclass(frozen=True)
class Points:
    """A list of sentences."""

    lines: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Facts:
    """A list of names and what they are."""

    items: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        head: names of the columns.
        rows: as many cells each.
        note: what its numbers mean.
        sortable: whether a page lets its reader sort it.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    sortable: bool = False


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures beside each other: captions and SVG files."""

    items: Sequence[tuple[str, Path]]


Block = Paragraph | Points | Facts | Table | Pictures


@dataclasses.dataclass(frozen=True)
class Section:
    """A part under a heading of its own.

    Attributes:
        title: the heading.
        level: 2 for a chapter, 3 for a part of one.
        blocks: what stands in it.
        folded: whether a page shows it only when it is asked to.
        page_only: whether it is too long for anything but a page.
    """

    title: str
    level: int
    blocks: Sequence[Block]
    folded: bool = False
    page_only: bool = False


@dataclasses.dataclass(frozen=True)
class Document:
    """A report.

    Attributes:
        title: the study's name.
        lead: what was done, in a sentence or two.
        sections: in their order.
    """

    title: str
    lead: str
    sections: Sequence[Section]
