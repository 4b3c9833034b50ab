"""A library's folder as it is read, here or at an address: list, read, rank, export."""

import contextlib
import dataclasses
import os
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from keras_spot import prompts
from keras_spot.base import ownership, remote
from keras_spot.base.errors import damaged, invalid, shortened, unknown
from keras_spot.base.reading.arrays import read_npy
from keras_spot.prompts import Prompt, similarity
from keras_spot.transfer.library.entries import (
    EMBEDDING,
    HEADER,
    PROMPT,
    SUMMARIES,
    Entry,
    check_comparable,
    entry_name,
    folder_name,
    read_header,
)

__all__ = ["PromptLike", "ReadLibrary", "as_prompt"]

_BLOCK = 64  # prompts that are in memory at once, 20 MB of 100 x 768

PromptLike = Prompt | np.ndarray | str | os.PathLike


class ReadLibrary:
    """What may be asked of a `PromptLibrary` without writing to it; see there."""

    def __init__(self, folder: str | os.PathLike):
        ownership.check_name(folder, "library")
        self.folder = remote.address(folder) if remote.is_remote(folder) else Path(folder)
        self._fetched: dict[str, Path] = {}

    def __repr__(self) -> str:
        return f"PromptLibrary({str(self.folder)!r})"

    # === Listing ===

    def __iter__(self) -> Iterator[str]:
        """Yield the names, sorted."""
        return iter(sorted(map(entry_name, self._keys())))

    def __len__(self) -> int:
        return sum(1 for _ in self._keys())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name != "" and self._path(name).is_file()

    def entries(self) -> list[Entry]:
        """Return the headers of all entries, sorted by name.

        An entry whose header cannot be read is left out, with a warning that names it; `verify`
        says what is wrong with it.
        """
        whole = []
        for name in self:
            with _left_out(name):
                whole.append(self.entry(name))
        return whole

    def entry(self, name: str) -> Entry:
        """Return the header of an entry.

        Raises:
            InvalidArgument: no such entry, with the closest names, or a header that is damaged.
        """
        file = self._path(name)
        try:
            entry = read_header(file)
        except FileNotFoundError:
            raise unknown("name", name, self) from None
        if entry.name != name:
            rule = f"must have an entry of the name {name!r} there"
            raise invalid("library", rule, f"name={shortened(repr(entry.name))} in {file}")
        return entry

    # === Reading ===

    def prompt(self, name: str) -> Prompt:
        """Return an entry's prompt with its provenance.

        Raises:
            InvalidArgument: no such entry, or a damaged file.
            MissingFile: its file is missing.
        """
        self.entry(name)
        return prompts.read(self._path(name, PROMPT))

    def embedding(self, name: str) -> Prompt:
        """Return an entry's task embedding: the prompt itself where none was added.

        Raises: as `prompt`.
        """
        entry = self.entry(name)
        if entry.embedding_shape is None:
            return self.prompt(name)
        embedding = prompts.read(self._path(name, EMBEDDING))
        return dataclasses.replace(embedding, provenance=entry.embedding_provenance)

    def rank(
        self,
        query: PromptLike,
        by: str | similarity.Similarity = "per_token_cosine",
        top: int | None = None,
    ) -> list[tuple[str, float]]:
        """Return the entries whose task embeddings are most similar to `query`'s, best first.

        Args:
            query: the task embedding of a new task: a `Prompt`, `[P, H]` numbers or a path.
            by: a name in `similarity.SIMILARITIES`, or a similarity of one's own, which is
                called with blocks of embeddings.
            top: only this many. Default: all.

        Returns:
            Pairs of name and similarity; what is equal is in the order of the names. An entry
            that is damaged is left out, with a warning that names it.

        Raises:
            InvalidArgument: an empty library, an unknown similarity, a query of another width or
                another backbone, or `top` below 1.
            MissingFile: nothing at the query's path.
        """
        if top is not None and top < 1:
            raise invalid("top", "must be a positive integer or None", f"{top=}")
        function = similarity.similarity(by)
        entries = self.entries()
        if not entries:
            raise invalid("library", "must hold at least one prompt", str(self.folder))
        prompt = as_prompt(query, "query")
        entries = [entry for entry in entries if self._is_comparable(prompt, entry)]
        name = next((n for n, known in similarity.SIMILARITIES.items() if known is function), "")
        if all(name in entry.summaries for entry in entries):
            summary = similarity.SUMMARIES[name](prompt.values[None])[0]
            values = self._by_summaries(summary, entries, name)
        else:
            values = self._by_blocks(prompt.values, entries, function)
        if not values:
            rule = "must hold at least one prompt that is whole"
            raise invalid("library", rule, str(self.folder))
        order = sorted(values, key=lambda name: (-values[name], name))
        return [(name, values[name]) for name in order[:top]]

    def holding(self, query: PromptLike) -> list[str]:
        """Return the names of the entries whose prompt or task embedding is the query, sorted.

        Entries of another task than the one that the query's provenance names are not looked into.

        Args:
            query: a `Prompt`, `[P, H]` numbers or a path.

        Raises:
            MissingFile: nothing at the query's path.
        """
        prompt = as_prompt(query, "query")
        task, names = prompt.provenance.get("task"), []
        for entry in self.entries():
            if task and entry.task and entry.task != task:
                continue
            kept = (entry.shape, self.prompt), (entry.embedding_shape, self.embedding)
            of_shape = [read for shape, read in kept if shape == prompt.values.shape]
            with _left_out(entry.name):
                if any(np.array_equal(read(entry.name).values, prompt.values) for read in of_shape):
                    names.append(entry.name)
        return names

    def export(
        self,
        name: str,
        path: str | os.PathLike,
        form: str | None = None,
        *,
        overwrite: bool = False,
    ) -> Path:
        """Write an entry's prompt to a file or folder of its own.

        See `prompts.write` for the forms, `overwrite` and the errors.
        """
        prompt = self.prompt(name)
        return prompts.write(path, prompt.values, prompt.provenance, form, overwrite=overwrite)

    # === Helpers ===

    def _keys(self) -> Iterator[str]:
        """Yield the names of the entries' folders, in no order."""
        root = self._root(f"*/{HEADER}")
        with contextlib.suppress(FileNotFoundError), os.scandir(root) as items:
            for item in items:
                if not item.name.startswith(".") and _is_there(root / item.name / HEADER):
                    yield item.name

    def _root(self, pattern: str) -> Path:
        """Return the local folder that holds the library's files of that pattern."""
        if isinstance(self.folder, Path):
            return self.folder
        if pattern not in self._fetched:
            self._fetched[pattern] = remote.fetch(self.folder, patterns=[pattern])
        return self._fetched[pattern]

    def _path(self, name: str, file: str = HEADER, every: bool = False) -> Path:
        """Return a file of an entry; of a remote library, fetch small ones of all entries."""
        key = folder_name(name)
        every = every or file in (HEADER, SUMMARIES)
        return self._root(f"*/{file}" if every else f"{key}/{file}") / key / file

    def _is_comparable(self, query: Prompt, entry: Entry) -> bool:
        """Whether an entry can be compared; one whose header is not its prompt's is left out.

        Raises:
            InvalidArgument: a query of another width or backbone than a whole entry's.
        """
        whole = False
        with _left_out(entry.name):
            if query.values.shape[1] != entry.shape[1]:
                path = self._path(entry.name, PROMPT)
                shape, _ = prompts.read_header(path)
                if shape != entry.shape:
                    raise damaged(path, f"must have the shape {entry.shape}", f"shape={shape}")
            whole = True
        if whole:
            check_comparable("query", query.values.shape, query.provenance, entry)
        return whole

    def _by_summaries(
        self, query: np.ndarray, entries: Sequence[Entry], by: str
    ) -> dict[str, float]:
        """Return the similarities of all entries that are whole, of their summaries alone."""
        vectors = {}
        for entry in entries:
            with _left_out(entry.name):
                vectors[entry.name] = self._summary(entry, by)
        values = np.stack(list(vectors.values())) @ query if vectors else []
        return {name: float(value) for name, value in zip(vectors, values)}

    def _summary(self, entry: Entry, by: str) -> np.ndarray:
        file = self._path(entry.name, SUMMARIES)
        rows = read_npy(file)
        expected = (len(entry.summaries), entry.shape[1])
        if rows.shape != expected or rows.dtype.kind != "f":
            rule = f"must hold floating-point numbers of the shape {expected}"
            raise damaged(file, rule, f"shape={rows.shape}, dtype={rows.dtype}")
        row = rows[entry.summaries.index(by)]
        if not np.isfinite(row).all():
            raise damaged(file, "must hold finite numbers only", f"NaN or infinity for {by}")
        return row

    def _by_blocks(
        self, query: np.ndarray, entries: Sequence[Entry], function: similarity.Similarity
    ) -> dict[str, float]:
        """Return the similarities of all entries that are whole, few embeddings at once."""
        of_shape = defaultdict(list)
        for entry in entries:
            of_shape[entry.embedding_shape or entry.shape].append(entry)
        values: dict[str, float] = {}
        for shape, alike in of_shape.items():
            for start in range(0, len(alike), _BLOCK):
                block = {}
                for entry in alike[start : start + _BLOCK]:
                    with _left_out(entry.name):
                        block[entry.name] = self._embedding_values(entry, shape)
                if block:
                    stacked = np.stack(list(block.values()))
                    values |= zip(block, similarity.similarities(query, stacked, function).tolist())
        return values

    def _embedding_values(self, entry: Entry, shape: tuple[int, int]) -> np.ndarray:
        file = PROMPT if entry.embedding_shape is None else EMBEDDING
        path = self._path(entry.name, file, every=True)
        values = prompts.read(path).values
        if values.shape != shape:
            raise damaged(path, f"must have the shape {shape}", f"shape={values.shape}")
        return values


def _is_there(file: Path) -> bool:
    """Whether there is something of that name, be it damaged or not to be looked at."""
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def _left_out(name: str) -> Iterator[None]:
    """Warn of an entry with a damaged or missing file instead of raising its error."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, PermissionError, ValueError) as error:
        warnings.warn(f"entry {name!r} is left out: {error}", UserWarning, stacklevel=4)


def as_prompt(prompt: PromptLike, argument: str) -> Prompt:
    """Return the prompt that was given, or that is at the path or in the array."""
    if isinstance(prompt, Prompt):
        return prompt
    if isinstance(prompt, (str, os.PathLike)):
        return prompts.read(prompt)
    return Prompt(prompts.as_prompt(prompt, argument))
