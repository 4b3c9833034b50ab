"""The library as a folder of one's own: add, merge, remove, verify."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot import prompts
from keras_spot.base import leftovers, ownership, remote
from keras_spot.base.atomic import atomic_write
from keras_spot.base.errors import invalid, unknown
from keras_spot.base.swap import make_folder, sync_folder, sync_tree
from keras_spot.prompts import similarity
from keras_spot.transfer.library.entries import (
    EMBEDDING,
    HEADER,
    PROMPT,
    SUMMARIES,
    Entry,
    array_shapes,
    check_comparable,
    entry_name,
    from_header,
    read_header,
    sha256,
    wrong_with,
)
from keras_spot.transfer.library.reading import PromptLike, ReadLibrary, as_prompt

__all__ = ["EMBEDDING_STEP", "PromptLibrary"]

EMBEDDING_STEP = 10_000
"""The checkpoint that is the task embedding in Vu et al. 2022, section 3."""
# What of a run's record says how its prompt was made.
_OF_RUN = ("task", "backbone", "versions", "recipe", "prompt_init", "split", "seed")


class PromptLibrary(ReadLibrary):
    """Prompts and task embeddings of many source tasks for one frozen backbone.

    Several processes may add to one library at once. All its prompts have one width and, where
    it is known, one backbone fingerprint, for no others can be compared; lengths may differ.

    Args:
        folder: the library's folder; `add` makes it if it is missing. Or the address of one
            (`gs://`, `hf://`), to read: headers are fetched once, arrays as they are needed.

    >>> library = PromptLibrary(tempfile.mkdtemp())
    >>> _ = library.add("glue/rte", np.eye(2), score=70.0)
    >>> _ = library.add("glue/mrpc", np.ones((3, 2)), score=88.0)
    >>> [(entry.name, entry.shape) for entry in library.entries()]
    [('glue/mrpc', (3, 2)), ('glue/rte', (2, 2))]
    >>> library.rank(np.ones((1, 2)), top=1)
    [('glue/mrpc', 0.99999...)]
    """

    def add(
        self,
        name: str,
        prompt: PromptLike,
        embedding: PromptLike | None = None,
        **provenance: object,
    ) -> Entry:
        """Add a prompt; it is there for others when all of it is.

        Adding what is there already changes nothing, so a program that was killed can be run
        again.

        Args:
            name: what to call it, usually the task's name.
            prompt: the best prompt: a `Prompt`, `[P, H]` numbers, or a path that
                `prompts.read` takes.
            embedding: the task embedding in the same forms. Default: the prompt serves as it.
            provenance: JSON-able facts on top of those the prompt brings, such as `task`,
                `step`, `score` and `backbone`, the fingerprint.

        Raises:
            InvalidArgument: an empty name, another prompt of this name, no prompt, other widths or
                backbones, provenance that JSON cannot hold.
            MissingFile: nothing at a path.
            OSError: the folder cannot be written to.
        """
        best = as_prompt(prompt, "prompt")
        facts = {**best.provenance, **provenance}
        early = best if embedding is None else as_prompt(embedding, "embedding")
        header: dict[str, Any] = {
            "name": name,
            "shape": best.values.shape,
            "provenance": facts,
            "embedding_shape": None if embedding is None else early.values.shape,
            "embedding_provenance": {} if embedding is None else dict(early.provenance),
            "summaries": list(similarity.SUMMARIES),
            "sha256": {},
        }
        try:
            header = json.loads(json.dumps(header, allow_nan=False))
        except (TypeError, ValueError):
            raise invalid("provenance", "must be JSON-able", f"provenance={facts}") from None
        entry = from_header(header)
        if early is not best:
            check_comparable("embedding", early.values.shape, early.provenance, entry)
        summaries = [summary(early.values[None])[0] for summary in similarity.SUMMARIES.values()]
        with self._new(entry) as folder:
            prompts.write(folder / PROMPT, best.values, header["provenance"])
            if early is not best:
                prompts.write(folder / EMBEDDING, early.values)
            prompts.write(folder / SUMMARIES, np.stack(summaries))
            hashes = {file.name: sha256(file) for file in sorted(folder.iterdir())}
            with atomic_write(folder / HEADER, "w") as file:
                json.dump({**header, "sha256": hashes}, file, indent=1, sort_keys=True)
        return self.entry(name)

    def add_run(
        self,
        run_dir: str | os.PathLike,
        embedding_step: int = EMBEDDING_STEP,
        name: str | None = None,
    ) -> Entry:
        """Add the best prompt of a training run, and its early checkpoint as the task embedding.

        Args:
            run_dir: a run's folder, see `run_folder`, or its address.
            embedding_step: the checkpoint nearest to this step is the embedding, the earlier
                of two. Default 10,000, as the paper.
            name: what to call it. Default: the run's task, else the folder's name.

        Raises:
            MissingFile: no checkpoints there.
            InvalidArgument: see `add`.
        """
        wanted = [prompts.RUN_FILE, f"*{prompts.REFERENCE_NAME}"]
        run_dir = remote.fetch(run_dir, patterns=wanted)
        best = prompts.read(run_dir)
        record = prompts.read_run(run_dir)
        nearest = min(prompts.steps(run_dir), key=lambda step: abs(step - embedding_step))
        facts = {key: record[key] for key in _OF_RUN if key in record}
        return self.add(
            name or record.get("task") or run_dir.name,
            best,
            prompts.read(run_dir, nearest),
            **facts,
        )

    def merge(self, other: "PromptLibrary | str | os.PathLike") -> list[str]:
        """Copy the entries of another library that are not here yet; return their names.

        Every file is checked against its hash on the way. Nothing is copied if one of the
        other's entries has the name of a different one here.

        Raises:
            InvalidArgument: such a name, another width or backbone, or a damaged file.
        """
        other = other if isinstance(other, PromptLibrary) else PromptLibrary(other)
        missing = []
        for entry in map(other.entry, other):
            if entry.name in self:
                self._check_same(entry)
            else:
                self._check_fits(entry)
                missing.append(entry)
        for entry in missing:
            with self._new(entry) as folder:
                for file in (*array_shapes(entry), HEADER):
                    shutil.copyfile(other._path(entry.name, file), folder / file)
                for problem in wrong_with(folder, entry):
                    raise invalid("other", "must hold what was added", f"{entry.name}: {problem}")
        return [entry.name for entry in missing]

    def remove(self, name: str) -> None:
        """Take an entry out; it is gone at once and whole.

        Raises:
            InvalidArgument: no such entry, with the closest names, or one to which somebody has
                put files of their own.
        """
        if name not in self:
            raise unknown("name", name, self)
        place = self._path(name).parent
        with self._scratch() as scratch:
            old = scratch / "old"
            os.rename(place, old)
            others = sorted(set(ownership.listing(old)) - {HEADER, PROMPT, EMBEDDING, SUMMARIES})
            if others:
                os.rename(old, place)
                rule = "must be of an entry that holds no files but its own"
                raise invalid("name", rule, f"{name!r} (holds {ownership.some(others)})")

    def verify(self) -> list[str]:
        """Return what is wrong with the library, one line a problem; `[]` if nothing is.

        Every file is read and compared with its hash; shapes and numbers are checked, and that
        all entries are of one width and one backbone.
        """
        if not isinstance(self.folder, Path):
            return PromptLibrary(remote.fetch(self.folder)).verify()
        problems = []
        first: Entry | None = None
        for name in self:
            try:
                entry = self.entry(name)
                wrong = wrong_with(self._path(name).parent, entry)
                problems += [f"{name}: {what}" for what in wrong]
                first = first or entry
                check_comparable("entry", entry.shape, entry.provenance, first)
            except (OSError, ValueError) as error:
                problems.append(f"{name}: {error}")
        for file in sorted(self.folder.glob("*")) if self.folder.is_dir() else ():
            if file.name.startswith("."):
                problems.append(f"{file.name}: left by an unfinished or killed writer")
            elif not (file / HEADER).is_file():
                problems.append(f"{file.name}: not an entry")
        return problems

    # === Helpers ===

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        if not isinstance(self.folder, Path):
            raise invalid("library", "must be a local folder to write to", self.folder)
        ownership.check_shared(
            self.folder, "library", "library", lambda place: (place / HEADER).is_file()
        )
        make_folder(self.folder)
        for place in leftovers.left_in(self.folder):
            _clear(place)
        prefix = leftovers.prefix(".writing-")
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=prefix) as scratch:
            yield Path(scratch)
        sync_folder(self.folder)

    @contextlib.contextmanager
    def _new(self, entry: Entry) -> Iterator[Path]:
        """Yield an empty folder that becomes the entry, or is the same as the one there."""
        self._check_fits(entry)
        with self._scratch() as scratch:
            new = scratch / "new"
            new.mkdir()
            yield new
            made = read_header(new / HEADER)
            sync_tree(new)
            try:
                # Where an entry is, this fails, as the rename of a file would not.
                os.rename(new, self._path(entry.name).parent)
            except OSError as error:
                place = self._path(entry.name).parent
                if entry.name not in self and os.path.lexists(place):
                    rule = "must have nothing else of an entry's name"
                    raise invalid("library", rule, str(place)) from error
                if entry.name not in self:
                    raise
                self._check_same(made)

    def _check_fits(self, entry: Entry) -> None:
        """Compare with any entry, and with one whose backbone is known if the new one's is.

        A damaged entry is compared with nothing; `verify` names it.
        """
        for key in self._keys():
            try:
                here = self.entry(entry_name(key))
            except (OSError, ValueError):
                continue
            check_comparable("prompt", entry.shape, entry.provenance, here)
            if here.backbone or not entry.backbone:
                return

    def _check_same(self, entry: Entry) -> None:
        if self.entry(entry.name) != entry:
            rule = "must be new to the library or be of the same prompt"
            raise invalid("name", rule, f"name={entry.name!r} in {self.folder}")


def _clear(scratch: Path) -> None:
    """Remove what a dead writer has left: an entry's own files, and folders that are empty then."""
    with contextlib.suppress(OSError):
        for place in scratch.iterdir():
            for name in (HEADER, PROMPT, EMBEDDING, SUMMARIES):
                (place / name).unlink(missing_ok=True)
            for left in leftovers.left_in(place):
                left.unlink()
            place.rmdir()
        scratch.rmdir()
