"""An entry of a library: its files, its header, and what may be wrong with them."""

import dataclasses
import hashlib
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_spot import prompts
from keras_spot.base import reading
from keras_spot.base.errors import invalid, shortened

__all__ = [
    "Entry",
    "array_shapes",
    "check_comparable",
    "entry_name",
    "folder_name",
    "from_header",
    "read_header",
    "sha256",
    "wrong_with",
]

HEADER, PROMPT, EMBEDDING, SUMMARIES = "entry.json", "prompt.npz", "embedding.npy", "summaries.npy"


@dataclasses.dataclass(frozen=True)
class Entry:
    """The header of a library's entry.

    Attributes:
        name: what the library calls it, usually its task.
        shape: `(P, H)` of the prompt.
        provenance: what is known of the prompt, such as `task`, `backbone`, `step`, `score`.
        embedding_shape: `(Q, H)` of the task embedding, None where the prompt serves as it.
        embedding_provenance: what is known of the task embedding.
        summaries: the similarities whose summaries are stored, in their order.
        sha256: file name -> hash of its bytes when it was added.
    """

    name: str
    shape: tuple[int, int]
    provenance: Mapping[str, Any]
    embedding_shape: tuple[int, int] | None
    embedding_provenance: Mapping[str, Any]
    summaries: Sequence[str]
    sha256: Mapping[str, str]

    @property
    def task(self) -> str | None:
        """The task that the prompt was trained on, if it is known."""
        return self.provenance.get("task")

    @property
    def backbone(self) -> str | None:
        """The fingerprint of the frozen backbone, if it is known."""
        return self.provenance.get("backbone")


def from_header(header: Mapping[str, Any]) -> Entry:
    """Return the entry of a header that was read.

    Raises:
        InvalidArgument: it is no header, by the field that is wrong.
    """
    shape: Any = header.get("shape")
    early: Any = header.get("embedding_shape")
    good = {
        "name": isinstance(header.get("name"), str),
        "shape": _is_shape(shape),
        "provenance": isinstance(header.get("provenance"), dict),
        "embedding_shape": early is None or _is_shape(early),
        "embedding_provenance": isinstance(header.get("embedding_provenance"), dict),
        "summaries": isinstance(header.get("summaries"), list),
        "sha256": isinstance(header.get("sha256"), dict),
    }
    for field, fits in good.items():
        if not fits:
            raise ValueError(f"{field}={shortened(repr(header.get(field)))}")
    return Entry(
        name=header["name"],
        shape=(shape[0], shape[1]),
        provenance=header["provenance"],
        embedding_shape=None if early is None else (early[0], shape[1]),
        embedding_provenance=header["embedding_provenance"],
        summaries=tuple(map(str, header["summaries"])),
        sha256=header["sha256"],
    )


def read_header(file: Path) -> Entry:
    """Return the entry whose header is a file.

    Raises:
        OSError: no such file, or it cannot be read.
        DamagedFile: it is no header.
    """
    rule = f"must have a readable {HEADER}"
    record = reading.read_record(file, argument="library", rule=rule)
    with reading.parsing(file, rule, "library"):
        return from_header(record)


def _is_shape(value: Any) -> bool:
    pair = isinstance(value, (list, tuple)) and len(value) == 2
    return pair and all(type(side) is int and side > 0 for side in value)


def folder_name(name: str) -> str:
    """Return the name of an entry's folder; the entry's own name may hold slashes.

    >>> folder_name("glue/mnli"), folder_name("..")
    ('glue%2Fmnli', '%2E.')
    """
    if not isinstance(name, str) or not name:
        raise invalid("name", "must be a text of at least one letter", f"{name=}")
    key = urllib.parse.quote(name, safe=" ")
    return "%2E" + key[1:] if key.startswith(".") else key


def entry_name(key: str) -> str:
    """Return the name of the entry whose folder is called that."""
    return urllib.parse.unquote(key)


def array_shapes(entry: Entry) -> dict[str, tuple[int, int]]:
    """Return the names and shapes of the array files of an entry."""
    shapes = {PROMPT: entry.shape, SUMMARIES: (len(entry.summaries), entry.shape[1])}
    if entry.embedding_shape is not None:
        shapes[EMBEDDING] = entry.embedding_shape
    return shapes


def wrong_with(folder: Path, entry: Entry) -> Iterator[str]:
    """Yield what is wrong with the array files of an entry in that folder."""
    for file, shape in array_shapes(entry).items():
        path = folder / file
        if not path.is_file():
            yield f"{file} is missing"
        elif sha256(path) != entry.sha256.get(file):
            yield f"{file} is not what was added"
        elif prompts.read(path).values.shape != shape:
            yield f"{file} has another shape than {HEADER} says"


def check_comparable(
    argument: str, shape: tuple[int, ...], provenance: Mapping[str, Any], entry: Entry
) -> None:
    """Raise InvalidArgument for a prompt of another width or backbone than an entry's."""
    if shape[1] != entry.shape[1]:
        rule = f"must have the width {entry.shape[1]} of {entry.name!r}"
        raise invalid(argument, rule, f"shape={tuple(shape)}")
    backbone = provenance.get("backbone")
    if backbone and entry.backbone and backbone != entry.backbone:
        rule = f"must come from the backbone of {entry.name!r} ({entry.backbone})"
        raise invalid(argument, rule, f"backbone={backbone!r}")


def sha256(file: Path) -> str:
    """Return the hash of a file's bytes."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
