"""The notebooks of examples/, made from Python files in the percent format.

    python tools/notebooks.py    runs every notebook and writes it with its outputs

A cell begins with `# %%`, a cell of text with `# %% [markdown]`. It needs nbclient and ipykernel,
which the extra `[dev]` has.
"""

import pathlib
import re

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"
SOURCES = (EXAMPLES / "quickstart.py", EXAMPLES / "own_data" / "own_data.py")
SECONDS = 600
"""A cell may take so long."""

_CELL = re.compile(r"^# %%(?P<kind> \[markdown\])?\n", re.MULTILINE)


def cells(source: pathlib.Path) -> list[tuple[str, str]]:
    """Return the (kind, text) of every cell: kind is "markdown" or "code"."""
    head, *parts = _CELL.split(source.read_text(encoding="utf-8"))
    if head.strip():
        raise ValueError(f"`source` must begin with a cell. Received: {source}")
    cells = []
    for kind, text in zip(parts[::2], parts[1::2], strict=True):
        if kind:
            text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
        cells.append(("markdown" if kind else "code", text.strip("\n")))
    return cells


def notebook(source: pathlib.Path):
    """Return a source as a notebook without outputs; equal sources are equal notebooks."""
    import nbformat.v4 as v4

    book = v4.new_notebook(metadata={"language_info": {"name": "python"}})
    for number, (kind, text) in enumerate(cells(source)):
        make = v4.new_markdown_cell if kind == "markdown" else v4.new_code_cell
        book.cells.append(make(text, id=f"cell-{number}"))
    return book


def run(source: pathlib.Path):
    """Return a source as a notebook with the outputs of running it beside its data.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell that fails.
    """
    import nbclient

    client = nbclient.NotebookClient(
        notebook(source), timeout=SECONDS, resources={"metadata": {"path": str(source.parent)}}
    )
    book = client.execute()
    for cell in book.cells:
        cell.metadata.pop("execution", None)  # when it ran
    return book


def main() -> None:
    """Run every notebook and write it."""
    import nbformat

    for source in SOURCES:
        nbformat.write(run(source), source.with_suffix(".ipynb"))


if __name__ == "__main__":
    main()
