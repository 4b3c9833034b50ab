"""Write a study's report into its folder."""

import os
from collections.abc import Mapping
from pathlib import Path

from keras_spot import transfer
from keras_spot.base.atomic import atomic_folder, atomic_write
from keras_spot.study.report import markdown, page
from keras_spot.study.report.content import compose
from keras_spot.study.report.pictures import draw
from keras_spot.study.results import gather
from keras_spot.study.table import StudyFolder


def write_report(
    folder: str | os.PathLike,
    by: Mapping[str, transfer.Similarity] = transfer.SIMILARITIES,
) -> Path:
    """Write `report.html`, `summary.md`, `pictures/` and the tables of a study, finished or not.

    The HTML file is self-contained: pictures are inside, nothing is loaded from elsewhere.

    Args:
        folder: the study's folder.
        by: the similarities to retrieve by: names and functions, see `transfer`.

    Returns:
        The path of `report.html`.

    Raises:
        MissingFile: no study there.
        InvalidArgument: a study without any run on a target.
        MissingExtra: without matplotlib (`pip install 'keras-spot[plots]'`).
    """
    place = StudyFolder(folder)
    results = gather(folder, by)
    place.write_table()
    with atomic_folder(place.path / "pictures") as scratch:
        report = compose(results, draw(results, scratch))
        html, summary = page.render(report), markdown.render(report, scratch, "pictures")
    for name, text in (("summary.md", summary), ("report.html", html)):
        with atomic_write(place.path / name, "w") as file:
            file.write(text)
    return place.path / "report.html"
