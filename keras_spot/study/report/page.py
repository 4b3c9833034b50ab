"""A report as one HTML page that needs nothing else."""

import base64
import html
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from keras_spot.study.report import document as doc
from keras_spot.study.report.style import SCRIPT, STYLE
from keras_spot.study.report.words import MINUS

__all__ = ["HALF", "NUMBER", "render", "table"]

HALF = 400
"""Points up to which a picture is as wide as half the page."""
_FIGURE = rf"[+\-{MINUS}]?\d[\d.,]*%?"
NUMBER = re.compile(rf"{_FIGURE}( [±/] {_FIGURE}| \(p [^)]*\))?")
"""A number, perhaps with its spread, its p-value, or another after a stroke."""


def render(document: doc.Document) -> str:
    """Return a document as one HTML page without any reference to elsewhere."""
    title = html.escape(document.title)
    sections = "".join(map(_section, document.sections))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{title}</h1>\n<p class=lead>{html.escape(document.lead)}</p>\n{sections}"
        f"</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _section(section: doc.Section) -> str:
    head = f"<h{section.level}>{html.escape(section.title)}</h{section.level}>"
    blocks = "".join(map(_block, section.blocks))
    if section.folded:
        return f"<details><summary>{head}</summary>\n{blocks}</details>\n"
    return f"<section>{head}\n{blocks}</section>\n"


def _block(block: doc.Block) -> str:
    match block:
        case doc.Paragraph():
            kind = " class=answer" if block.important else ""
            return f"<p{kind}>{_text(block.text)}</p>\n"
        case doc.Points():
            lines = "".join(f"<li>{_text(line)}</li>" for line in block.lines)
            return f"<ul>{lines}</ul>\n"
        case doc.Facts():
            items = block.items.items()
            cells = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in items)
            return f"<dl>{cells}</dl>\n"
        case doc.Table():
            note = f"<p class=note>{html.escape(block.note)}</p>\n" if block.note else ""
            return table(block.head, block.rows, block.sortable) + note
        case doc.Pictures():
            figures = "".join(_figure(caption, path) for caption, path in block.items)
            return f"<div class=figures>{figures}</div>\n" if figures else ""


def _text(text: str) -> str:
    """Return a text for a page, whose lines do not break between a number and its spread."""
    return html.escape(text).replace(" ± ", "&nbsp;±&nbsp;")


def _figure(caption: str, path: Path) -> str:
    picture = path.read_bytes()
    match = re.search(rb'<svg[^>]* width="([0-9.]+)pt"', picture)
    points = float(match[1]) if match else HALF
    kind = "whole" if points > HALF else "half"
    data = base64.b64encode(picture).decode("ascii")
    text = html.escape(caption)
    image = (
        f'<img alt="{text}" style="--width:{points * 4 / 3:.0f}px" '
        f'src="data:image/svg+xml;base64,{data}">'
    )
    return (
        f"<figure class={kind}>{_scrolling(image, 'picture')}"
        f"<figcaption>{text}</figcaption></figure>\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], sortable: bool = False) -> str:
    """Return an HTML table; numbers are set to the right, long texts in several lines.

    >>> print(table(["a", "b"], [["<1>", "2"]]))
    <div class=scroll tabindex=0 role=region aria-label="table"><table><thead><tr><th>a</th><th class=n>b</th></tr></thead><tbody><tr><td>&lt;1&gt;</td><td class=n>2</td></tr></tbody></table></div>
    <BLANKLINE>
    """  # noqa: E501
    rows = list(rows)
    kinds = [_kind([row[i] for row in rows]) for i in range(len(head))]
    heads = "".join(f"<th{k}>{html.escape(cell)}</th>" for k, cell in zip(kinds, head))
    body = "".join(
        f"<tr>{''.join(f'<td{k}>{html.escape(cell)}</td>' for k, cell in zip(kinds, row))}</tr>"
        for row in rows
    )
    kind = " class=sortable" if sortable else ""
    content = f"<table{kind}><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
    return _scrolling(content, "table") + "\n"


def _scrolling(content: str, label: str) -> str:
    """Return what is scrolled sideways where it is wider than the page."""
    return f'<div class=scroll tabindex=0 role=region aria-label="{label}">{content}</div>'


def _kind(cells: Sequence[str]) -> str:
    """Return the class of a column: numbers, long texts, or neither."""
    numbers = [NUMBER.fullmatch(cell) for cell in cells]
    if any(numbers) and all(n or len(cell) < 2 for n, cell in zip(numbers, cells)):
        return " class=n"
    longest = max(map(len, cells), default=0)
    return " class=sentences" if longest > 32 else " class=words" if longest > 20 else ""
