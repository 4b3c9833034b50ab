"""A report as Markdown."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from keras_spot.study.report import document as doc

__all__ = ["render", "table"]


def render(document: doc.Document, folder: Path, address: str) -> str:
    """Return a document as Markdown, without the sections that only a page has room for.

    Args:
        document: the report.
        folder: where the pictures lie now.
        address: that folder as the Markdown names it.
    """
    text = [f"# {document.title}", "", document.lead, ""]
    for section in document.sections:
        if not section.page_only:
            text += _section(section, folder, address)
    return "\n".join(text)


def _section(section: doc.Section, folder: Path, address: str) -> list[str]:
    text = [f"{'#' * section.level} {section.title}", ""]
    for block in section.blocks:
        text += [*_block(block, folder, address), ""]
    return text


def _block(block: doc.Block, folder: Path, address: str) -> list[str]:
    match block:
        case doc.Paragraph():
            return [f"**{block.text}**" if block.important else block.text]
        case doc.Points():
            return [f"- {line}" for line in block.lines]
        case doc.Facts():
            return [f"- {name}: {text}" for name, text in block.items.items()]
        case doc.Table():
            return [*table(block.head, block.rows), *(["", block.note] if block.note else [])]
        case doc.Pictures():
            return _pictures(block, folder, address)


def _pictures(pictures: doc.Pictures, folder: Path, address: str) -> list[str]:
    lines: list[str] = []
    for caption, path in pictures.items:
        name = f"{address}/{path.relative_to(folder).as_posix()}"
        lines += ["", f"![{caption}]({name})"] if lines else [f"![{caption}]({name})"]
    return lines


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table.

    >>> table(["a", "b"], [["1", "2|3"]])
    ['| a | b |', '|---|---|', '| 1 | 2\\\\|3 |']
    """
    lines = [[cell.replace("|", "\\|") for cell in cells] for cells in (head, *rows)]
    text = [f"| {' | '.join(cells)} |" for cells in lines]
    return [text[0], "|" + "---|" * len(head), *text[1:]]
