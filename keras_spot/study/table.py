"""A study's folder: what is in it, and the tidy table of its runs.

study.json          the description
cells/ID.json       the row of a finished run
prompts/ID.npz      its prompt; embeddings/ID.npz its early one
library/            the sources as a `PromptLibrary`
claims/, partial/   who works on what; where unfinished runs can go on
failures/ID.json    what went wrong with a cell
table.jsonl, .csv   all rows, collected from the cells

The tables with `study.json` and `embeddings/` are all that a report is made from: to keep a study
for its report, these are enough. Without `embeddings/` it says nothing of similarities.

A row is one file that appears whole by a rename, and is the last thing a run writes: a kill
leaves a run finished or not. One shared file would need an append that is atomic between hosts,
which NFS does not have.
"""

import contextlib
import csv
import dataclasses
import io
import json
import os
import shutil
import time
import traceback
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_spot.base import ownership, reading, remote
from keras_spot.base.atomic import atomic_write
from keras_spot.base.claims import STALE_AFTER, Claims
from keras_spot.base.errors import damaged, invalid, missing_file, shortened
from keras_spot.base.fields import check_text
from keras_spot.base.json_text import to_json
from keras_spot.base.ownership import Kind, check
from keras_spot.study.cells import Cell
from keras_spot.study.description import Study

__all__ = ["TABLES", "Row", "Status", "StudyFolder", "read_json", "status", "write_json"]

Row = dict[str, Any]
DESCRIPTION, CELLS, FAILURES = "study.json", "cells", "failures"
TABLES = ("table.jsonl", "table.csv")
# What else is written into a study's folder, so that a new study finds none of it.
_NAMES = [CELLS, "prompts", "embeddings", "library", "claims", "partial", FAILURES, "logs"]
_NAMES += [*TABLES, "pictures", "summary.md", "report.html"]


class StudyFolder:
    """The files of a study."""

    def __init__(self, path: str | os.PathLike, stale_after: float = STALE_AFTER):
        ownership.check_name(path, "folder")
        self.path = Path(path)
        self.claims = Claims(self.path / "claims", stale_after)

    @property
    def library(self) -> Path:
        """Folder of the sources' prompts."""
        return self.path / "library"

    def prompt(self, cell: Cell) -> Path:
        """File of a finished run's prompt."""
        return self.path / "prompts" / f"{cell.id}.npz"

    def embedding(self, cell: Cell) -> Path:
        """File of the prompt after the embedding steps, of sources and baselines."""
        return self.path / "embeddings" / f"{cell.id}.npz"

    def partial(self, cell: Cell) -> Path:
        """Folder of an unfinished run."""
        return self.path / "partial" / cell.id

    def is_done(self, cell: Cell) -> bool:
        """Whether a run is finished."""
        return self._row(cell).is_file()

    def row(self, cell: Cell) -> Row:
        """The row of a finished run."""
        return read_json(self._row(cell))

    def finish(self, cell: Cell, row: Mapping[str, object]) -> None:
        """Write the row of a finished run."""
        write_json(self._row(cell), row)

    def clear(self, done: Collection[str]) -> None:
        """Remove the claims and unfinished parts of finished runs, which a kill may have left."""
        self.claims.drop_all(done)
        for part in (self.path / "partial").glob("*"):
            if part.name in done:
                shutil.rmtree(part, ignore_errors=True)

    def fail(self, cell: Cell, error: BaseException) -> None:
        """Note what went wrong with a run."""
        trace = "".join(traceback.format_exception(error))
        record = {**cell.columns(), "error": f"{type(error).__name__}: {error}", "traceback": trace}
        write_json(self._failure(cell), record)

    @property
    def only_kept(self) -> bool:
        """Whether there is a table, but none of the cells it was collected from."""
        return not (self.path / CELLS).is_dir() and (self.path / TABLES[0]).is_file()

    @property
    def has_embeddings(self) -> bool:
        """Whether the embeddings are here, as they are in every folder with its cells."""
        return (self.path / "embeddings").is_dir() or not self.only_kept

    def done(self) -> set[str]:
        """The ids of all finished runs."""
        if self.only_kept:
            return {row["id"] for row in self._table()}
        return _ids(self.path / CELLS)

    def failed(self) -> set[str]:
        """The ids of the runs that went wrong since the study was last started."""
        return _ids(self.path / FAILURES)

    def failures(self) -> list[Row]:
        """What went wrong; a damaged record is left out, with a warning that names it."""
        files = sorted((self.path / FAILURES).glob("[!.]*.json"))
        records = (_whole(file, _FAILURE) for file in files)
        return [record for record in records if record is not None]

    def forget_failures(self, study: Study) -> None:
        """Let failed cells be tried again."""
        for cell in study.cells():
            self._failure(cell).unlink(missing_ok=True)

    def rows(self, study: Study | None = None) -> list[Row]:
        """The rows of all finished runs, in the order of the grid.

        A damaged row is left out, with a warning that names it.
        """
        study = study or self.study()
        if self.only_kept:
            return self._table()
        done = self.done()
        files = [self._row(cell) for cell in study.cells() if cell.id in done]
        rows = (_whole(file, _ROW) for file in files)
        return [row for row in rows if row is not None]

    def open(self, study: Study) -> None:
        """Begin a study in this folder, or go on with it.

        Raises:
            InvalidArgument: the folder holds a study with other runs, or one that is only kept, or
                files of the names of ours that we did not write; or it is an address.
        """
        if remote.is_remote(self.path):
            rule = "must be a folder of this machine"
            raise invalid("folder", rule, remote.address(self.path))
        check_text(study.record())
        file = self.path / DESCRIPTION
        if self.only_kept and file.is_file():
            rule = "must hold the cells of its runs to go on; only its tables are kept"
            raise invalid("folder", rule, self.path)
        if file.is_file():
            study.check_continues(read_json(file))
            self.check_tables()
        else:
            taken = [name for name in _NAMES if _is_something(self.path / name)]
            if taken and not file.is_file():  # nor has another host begun just now
                rule = "must be new or hold a study, without files of the names that it writes"
                raise invalid("folder", rule, f"{self.path} (holds {', '.join(taken)})")
            # The description itself may lie there, and what another host begins just now.
            ours = {*_NAMES, DESCRIPTION}
            ownership.check_shared(
                self.path,
                "study",
                "folder",
                lambda place: place.name in ours or place.suffix in (".yaml", ".yml", ".json"),
            )
        write_json(file, study.record())

    def study(self) -> Study:
        """The study of this folder.

        Raises:
            MissingFile: there is none.
        """
        file = self.path / DESCRIPTION
        if not file.is_file():
            rule = "must be the folder of a study"
            raise missing_file("folder", rule, self.path)
        record = read_json(file)
        with reading.parsing(file, "must hold a study", "folder"), reading.naming(file):
            return Study.from_record(record)

    def write_table(self, overwrite: bool = False) -> Path:
        """Collect all rows in `table.jsonl` and, without curves, in `table.csv`.

        Raises:
            InvalidArgument: a table is there that says more than our rows, without `overwrite`.
        """
        rows = self.rows()
        lines = "".join(to_json(row) + "\n" for row in rows)
        plain = [k for k in rows[0] if not isinstance(rows[0][k], (dict, list))] if rows else []
        kind = self._table_kind()
        for name, text in zip(TABLES, (lines, _csv(rows, plain))):
            with atomic_write(self.path / name, "w", kind, overwrite) as file:
                file.write(text)
        return self.path / TABLES[0]

    def check_tables(self, overwrite: bool = False) -> bool:
        """Return whether tables would be replaced.

        Raises:
            InvalidArgument: as `write_table`.
        """
        kind = self._table_kind()
        replaced = [check(self.path / name, kind, overwrite) for name in TABLES]
        return any(replaced)

    def _table_kind(self) -> Kind:
        """Return the kind of a table that says nothing beyond the rows of finished runs.

        Of a run whose row somebody took out of `cells/`, what a table says cannot be compared.
        """

        def is_earlier(file: Path) -> bool:
            rows = []
            for cell in (self.path / CELLS).glob("[!.]*.json"):
                with contextlib.suppress(ValueError):  # damaged, and left out of the new table
                    rows.append(read_json(cell))
            text = file.read_text(encoding="utf-8")
            if file.suffix == ".csv":
                read = csv.DictReader(io.StringIO(text))
                older: list[Row] = list(read)
                columns = read.fieldnames or ()
                newer: list[Row] = list(csv.DictReader(io.StringIO(_csv(rows, columns))))
            else:
                older, newer = [json.loads(line) for line in text.splitlines()], rows
            if not older:
                return not text.strip()
            known = {row["id"]: json.dumps(row, sort_keys=True) for row in newer}
            for row in older:
                same = json.dumps(row, sort_keys=True)
                if known.get(row["id"], same) != same:
                    return False
            return {row["id"] for row in older} <= known.keys() | {
                cell.id for cell in self.study().cells()
            }

        return Kind("table of this study", marked=is_earlier)

    def _table(self) -> list[Row]:
        file = self.path / TABLES[0]
        rows = list(reading.read_json_lines(file, argument="folder", finite=False))
        for row in rows:
            _check(file, row, _ROW)
        return rows

    def _row(self, cell: Cell) -> Path:
        return self.path / CELLS / f"{cell.id}.json"

    def _failure(self, cell: Cell) -> Path:
        return self.path / FAILURES / f"{cell.id}.json"


@dataclasses.dataclass(frozen=True)
class Status:
    """How far a study is.

    Attributes:
        name: the study's.
        done: kind of run -> how many are finished.
        total: kind of run -> how many there are.
        running: a record for every run that somebody works on: `id`, `host`, `pid`, `seconds`.
        failures: a record for every run that went wrong: `id`, `error`, `traceback`.
    """

    name: str
    done: Mapping[str, int]
    total: Mapping[str, int]
    running: Sequence[Mapping[str, Any]]
    failures: Sequence[Mapping[str, Any]]

    @property
    def complete(self) -> bool:
        """Whether every run is finished."""
        return self.done == self.total


def status(folder: "str | os.PathLike | StudyFolder") -> Status:
    """Return how far the study in a folder is.

    Raises:
        MissingFile: there is no study.
    """
    folder = folder if isinstance(folder, StudyFolder) else StudyFolder(folder)
    study = folder.study()
    done: dict[str, int] = {}
    total: dict[str, int] = {}
    running = []
    finished_ids = folder.done()
    for cell in study.cells():
        finished = cell.id in finished_ids
        total[cell.kind] = total.get(cell.kind, 0) + 1
        done[cell.kind] = done.get(cell.kind, 0) + finished
        holder = None if finished else folder.claims.holder(cell.id)
        if holder:
            since = holder.get("time")
            now = time.time()
            seconds = now - since if isinstance(since, (int, float)) else 0.0
            running.append({"id": cell.id, **holder, "seconds": round(seconds, 1)})
    return Status(study.name, done, total, running, folder.failures())


def _csv(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Return columns of rows as CSV with a header."""
    text = io.StringIO()
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _is_something(path: Path) -> bool:
    """Whether there is a file, or a folder that is not empty."""
    return any(path.iterdir()) if path.is_dir() else os.path.lexists(path)


def _ids(folder: Path) -> set[str]:
    return {file.name.removesuffix(".json") for file in folder.glob("[!.]*.json")}


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record, whole or not at all."""
    with atomic_write(path, "w") as file:
        file.write(to_json(record, indent=1) + "\n")


def read_json(path: Path) -> Row:
    """Read a record; a score that is no number may stand there as NaN.

    Raises:
        OSError: no such file, or it cannot be read.
        DamagedFile: it is no record.
    """
    return reading.read_record(path, argument="folder", finite=False)


_ROW: Mapping[str, tuple[type, ...]] = {
    "id": (str,),
    "kind": (str,),
    "source": (str, type(None)),
    "target": (str, type(None)),
    "examples": (int, type(None)),
    "seed": (int,),
    "score": (int, float),
}
_FAILURE: Mapping[str, tuple[type, ...]] = {"id": (str,), "error": (str,)}


def _whole(file: Path, fields: Mapping[str, tuple[type, ...]]) -> Row | None:
    """Return a record with these fields, None and a warning where it is damaged."""
    try:
        record = read_json(file)
        _check(file, record, fields)
        if record["id"] != file.stem:
            received = f"id={shortened(repr(record['id']))}"
            raise damaged(file, "must be the record of its name's run", received)
    except FileNotFoundError:  # taken away just now
        return None
    except (OSError, ValueError) as error:
        warnings.warn(f"a record is left out: {error}", UserWarning, stacklevel=3)
        return None
    return record


def _check(file: Path, record: Any, fields: Mapping[str, tuple[type, ...]]) -> None:
    for field, kinds in fields.items():
        value = record.get(field) if isinstance(record, dict) else record
        if not isinstance(record, dict) or field not in record or type(value) not in kinds:
            received = f"{field}={shortened(repr(value))}"
            raise damaged(file, "must be a record of a run", received, argument="folder")
