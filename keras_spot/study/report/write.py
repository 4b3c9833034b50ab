"""Write a study's report into its folder."""

import os
from collections.abc import Mapping
from pathlib import Path

from keras_spot import transfer
from keras_spot.base import ownership
from keras_spot.base.atomic import atomic_folder, atomic_write
from keras_spot.base.errors import check_installed
from keras_spot.base.ownership import Kind
from keras_spot.study.report import markdown, page
from keras_spot.study.report.content import compose
from keras_spot.study.report.method_pictures import draw_methods
from keras_spot.study.report.pictures import draw
from keras_spot.study.results import gather
from keras_spot.study.table import StudyFolder

__all__ = ["PICTURES", "TEXT", "check_report", "write_report"]

_PAGE = "report.html"

PICTURES = Kind("folder of pictures", is_folder=True)
TEXT = Kind("unchanged report", marked=ownership.is_signed)


def check_report(folder: str | os.PathLike, overwrite: bool = False) -> bool:
    """Return whether a report is there that `write_report` would replace.

    Raises:
        InvalidArgument: it was changed, or somebody put something there, and it may not be
            replaced.
        MissingExtra: without matplotlib (`pip install 'keras-spot[plots]'`).
    """
    check_installed("plots", "matplotlib")
    path = Path(folder)
    older = [StudyFolder(path).check_tables(overwrite)]
    older += [ownership.check(path / name, TEXT, overwrite) for name in ("summary.md", _PAGE)]
    return any([*older, ownership.check(path / "pictures", PICTURES, overwrite)])


def write_report(
    folder: str | os.PathLike,
    by: Mapping[str, transfer.Similarity] = transfer.SIMILARITIES,
    *,
    overwrite: bool = False,
) -> Path:
    """Write `report.html`, `summary.md`, `pictures/` and the tables of a study, finished or not.

    The HTML file is self-contained: pictures are inside, nothing is loaded from elsewhere.

    Args:
        folder: the study's folder.
        by: the similarities to retrieve by: names and functions, see `transfer`.
        overwrite: also replace a page, a summary, tables or pictures that were changed since. What
            else lies in `pictures/` stays, and is an error.

    Returns:
        The path of `report.html`.

    Raises:
        MissingFile: no study there.
        InvalidArgument: a study without any run on a target, or files that may not be replaced.
        MissingExtra: without matplotlib (`pip install 'keras-spot[plots]'`).
    """
    place = StudyFolder(folder)
    results = gather(folder, by)
    check_report(folder, overwrite)
    place.write_table(overwrite)
    with atomic_folder(place.path / "pictures", PICTURES, overwrite) as scratch:
        report = compose(results, draw(results, scratch), draw_methods(results, scratch))
        html, summary = page.render(report), markdown.render(report, scratch, "pictures")
    for name, text in (("summary.md", summary), (_PAGE, html)):
        with atomic_write(place.path / name, "w", TEXT, overwrite) as file:
            file.write(ownership.signed(text))
    return place.path / _PAGE
