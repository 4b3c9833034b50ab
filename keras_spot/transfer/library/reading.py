"""A library's folder as it is read, here or at an address: list, read, rank, export."""

import contextlib
import dataclasses
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from keras_spot import prompts
from keras_spot.base import remote
from keras_spot.base.errors import invalid, unknown
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
    from_header,
)

_BLOCK = 64  # prompts that are in memory at once, 20 MB of 100 x 768

PromptLike = Prompt | np.ndarray | str | os.PathLike


class ReadLibrary:
    """What may be asked of a `PromptLibrary` without writing to it; see there."""

    def __init__(self, folder: str | os.PathLike):
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

        Raises:
            ValueError: an entry whose header cannot be read.
        """
        return [self.entry(name) for name in self]

    def entry(self, name: str) -> Entry:
        """Return the header of an entry.

        Raises:
            ValueError: no such entry, with the closest names, or a header that is damaged.
        """
        file = self._path(name)
        try:
            found = from_header(json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise unknown("name", name, self) from None
        except (KeyError, TypeError, ValueError):
            raise invalid("library", f"must have a readable {HEADER}", str(file)) from None
        if found.name != name:
            rule = f"must have an entry of the name {name!r} there"
            raise invalid("library", rule, f"name={found.name!r} in {file}")
        return found

    # === Reading ===

    def prompt(self, name: str) -> Prompt:
        """Return an entry's prompt with its provenance.

        Raises:
            ValueError: no such entry, or a damaged file.
            FileNotFoundError: its file is missing.
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
        found = prompts.read(self._path(name, EMBEDDING))
        return dataclasses.replace(found, provenance=entry.embedding_provenance)

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
            Pairs of name and similarity; what is equal is in the order of the names.

        Raises:
            ValueError: an empty library, an unknown similarity, a query of another width or
                another backbone, or `top` below 1.
            FileNotFoundError: nothing at the query's path.
        """
        if top is not None and top < 1:
            raise invalid("top", "must be a positive integer or None", f"{top=}")
        function = similarity.similarity(by)
        entries = self.entries()
        if not entries:
            raise invalid("library", "must hold at least one prompt", str(self.folder))
        prompt = as_prompt(query, "query")
        for entry in entries:
            check_comparable("query", prompt.values.shape, prompt.provenance, entry)
        name = next((n for n, known in similarity.SIMILARITIES.items() if known is function), "")
        if all(name in entry.summaries for entry in entries):
            vectors = np.stack([self._summary(entry, name) for entry in entries])
            values = vectors @ similarity.SUMMARIES[name](prompt.values[None])[0]
        else:
            values = self._by_blocks(prompt.values, entries, function)
        order = sorted(range(len(entries)), key=lambda i: (-values[i], entries[i].name))
        return [(entries[i].name, float(values[i])) for i in order[:top]]

    def export(self, name: str, path: str | os.PathLike, form: str | None = None) -> Path:
        """Write an entry's prompt to a file or folder of its own.

        See `prompts.write` for the forms and the errors.
        """
        prompt = self.prompt(name)
        return prompts.write(path, prompt.values, prompt.provenance, form)

    # === Helpers ===

    def _keys(self) -> Iterator[str]:
        """Yield the names of the entries' folders, in no order."""
        root = self._root(f"*/{HEADER}")
        with contextlib.suppress(FileNotFoundError), os.scandir(root) as found:
            for item in found:
                if not item.name.startswith(".") and os.path.isfile(root / item.name / HEADER):
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

    def _summary(self, entry: Entry, by: str) -> np.ndarray:
        rows = np.load(self._path(entry.name, SUMMARIES), allow_pickle=False)
        return rows[entry.summaries.index(by)]

    def _by_blocks(
        self, query: np.ndarray, entries: Sequence[Entry], function: similarity.Similarity
    ) -> np.ndarray:
        """Return the similarities of all entries with few embeddings in memory at once."""
        values = np.empty(len(entries))
        of_shape = defaultdict(list)
        for i, entry in enumerate(entries):
            of_shape[entry.embedding_shape or entry.shape].append(i)
        for shape, positions in of_shape.items():
            buffer = np.empty((min(_BLOCK, len(positions)), *shape), "float32")
            for start in range(0, len(positions), _BLOCK):
                block = positions[start : start + _BLOCK]
                for row, i in zip(buffer, block):
                    row[:] = self._embedding_values(entries[i])
                values[block] = similarity.similarities(query, buffer[: len(block)], function)
        return values

    def _embedding_values(self, entry: Entry) -> np.ndarray:
        file = PROMPT if entry.embedding_shape is None else EMBEDDING
        return prompts.read(self._path(entry.name, file, every=True)).values


def as_prompt(prompt: PromptLike, argument: str) -> Prompt:
    """Return the prompt that was given, or that is at the path or in the array."""
    if isinstance(prompt, Prompt):
        return prompt
    if isinstance(prompt, (str, os.PathLike)):
        return prompts.read(prompt)
    return Prompt(prompts.as_prompt(prompt, argument))
