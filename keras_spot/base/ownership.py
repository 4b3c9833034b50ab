"""What stands where something shall be written: nothing, our own earlier work, or another's.

A folder that is written whole gets a file `keras_spot.json`, which names its kind and a digest of
each of its files. It is replaced only while it holds these files and no other. A single file is
known by a mark inside, where its format has room for one.
"""

import dataclasses
import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from keras_spot.base.errors import invalid, shortened
from keras_spot.base.versions import __version__

__all__ = [
    "MARKER",
    "SCRATCH",
    "Kind",
    "check",
    "check_file",
    "check_folder",
    "check_name",
    "check_shared",
    "digest",
    "is_signed",
    "judge",
    "listing",
    "mark",
    "marked_files",
    "signed",
    "some",
    "unchanged",
]

MARKER = "keras_spot.json"
SCRATCH = ".keras_spot-"  # begins the name of a folder that is being written, or that a kill left
_END = 1 << 20  # bytes of a file's beginning and of its end that its digest covers
_SHOWN = 3  # names in a message


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of output.

    Attributes:
        name: what messages call it.
        is_folder: whether it is a folder, known by its `keras_spot.json`.
        marked: of a file, whether it carries our mark. Default: the format has none.
        similar: of a file, whether it looks like this kind without being marked. Default: never.
    """

    name: str
    is_folder: bool = False
    marked: Callable[[Path], bool] | None = None
    similar: Callable[[Path], bool] | None = None


def check(
    path: str | os.PathLike, kind: Kind, overwrite: bool = False, strict: bool = False
) -> bool:
    """Return whether there is something that may be replaced, False where there is nothing.

    Args:
        path: of this machine; links are followed.
        kind: what shall be written.
        overwrite: also replace any file, and a folder of ours whose files have changed since.
            Never a folder that holds what we did not write.
        strict: of files, replace only what carries our mark, not what is similar.

    Raises:
        InvalidArgument: it may not be replaced.
        IsADirectoryError, NotADirectoryError: a folder in a file's place, or the other way round.
        PermissionError: a file that is not to be written to.
    """
    check_name(path)
    real, shown = Path(os.path.realpath(path)), os.fspath(path)
    if kind.is_folder:
        return bool(check_folder(real, kind, overwrite, shown))
    known = check_file(real, kind, overwrite, shown, strict)
    return known is not None and stat.S_ISREG(known.st_mode) and known.st_size > 0


def check_name(path: str | os.PathLike, argument: str = "path") -> None:
    """Raise InvalidArgument for what is no path, or empty, which is the current folder."""
    if not isinstance(path, (str, os.PathLike)):
        raise invalid(argument, "must be a path", f"{argument}={shortened(repr(path), 80)}")
    if not os.fspath(path):
        raise invalid(argument, "must not be empty", f"{argument}=''")


def check_file(
    path: Path,
    kind: Kind | None,
    overwrite: bool,
    shown: str,
    strict: bool = False,
) -> os.stat_result | None:
    """Return what the system says of a file that may be replaced, None where there is none.

    Without a kind every file may be replaced. `shown` is how messages name the file. Raises: as
    `check`.
    """
    try:
        known = os.stat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(known.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), shown)
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), shown)
    if kind is None or overwrite or not stat.S_ISREG(known.st_mode) or known.st_size == 0:
        return known
    if _is_one(kind.marked, path) or (not strict and _is_one(kind.similar, path)):
        return known
    rule = "must be new, or `overwrite` be set to replace what is there"
    what = f"{known.st_size} bytes, not recognised as {kind.name} of keras_spot"
    raise invalid("path", rule, f"{shown} ({what})")


def check_folder(path: Path, kind: Kind, overwrite: bool, shown: str) -> list[str] | None:
    """Return what is in a folder that may be replaced, None where there is none.

    `shown` is how messages name the folder. Raises: as `check`.
    """
    while True:
        before = _identity(path)
        if before is None:
            return None
        if not stat.S_ISDIR(before[0]):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), shown)
        error, names = None, []
        try:
            own = _own_files(path, kind)
            names = listing(path) if own else _top(path)
            digests = {name: _digest_inside(path, name) for name in names if name in own}
            judge(names, own, digests, kind, overwrite, shown)
        except (ValueError, FileNotFoundError) as caught:
            error = caught
        if _identity(path) != before:
            continue  # another writer of ours has put a new folder there meanwhile
        if error is not None:
            raise error
        return names


def check_shared(path: Path, what: str, argument: str, is_ours: Callable[[Path], bool]) -> None:
    """Raise unless a folder that gets one file after the other is new, empty or has ours in it.

    Names that begin with a dot say nothing: a lock, what a file manager leaves. Neither do folders
    that hold nothing else: what was killed as it began leaves them.

    Args:
        path: the folder.
        what: what it shall be, for the message.
        argument: the name of the argument that gives it.
        is_ours: whether something in it is our work; then others' files may lie beside it.

    Raises:
        InvalidArgument: it holds only what others have put there.
    """
    names = _shown(path)
    others = [name for name in names if not _is_bare(path / name)]
    if others and not any(is_ours(path / name) for name in names):
        rule = f"must be new, empty or hold a {what} (choose another, or empty it yourself)"
        raise invalid(argument, rule, f"{path} (holds {some(others)})")


def _shown(path: Path) -> list[str]:
    """Return the names in a folder that do not begin with a dot, none where there is no folder."""
    return [name for name in _top(path) if not name.startswith(".")] if path.is_dir() else []


def _is_bare(place: Path) -> bool:
    """Return whether it is a folder without files, down to its last folder."""
    if place.is_symlink() or not place.is_dir():
        return False
    return all(_is_bare(place / name) for name in _shown(place))


def judge(
    names: Iterable[str],
    own: dict[str, str],
    digests: dict[str, str],
    kind: Kind,
    overwrite: bool,
    shown: str,
) -> None:
    """Raise InvalidArgument unless a folder is empty or holds our own unchanged work alone.

    Args:
        names: paths inside of all that is there.
        own: the files that its marker names, with their digests; nothing without a marker.
        digests: what they are now, for those that are there.
        kind: what the folder shall become.
        overwrite: whether our own files may have changed.
        shown: the folder, for the message.
    """
    known = {*own, MARKER} if own else set()
    others = [name for name in names if name not in known and not _held(name, known)]
    if others:
        rule = (
            f"must be new, empty or hold nothing but a {kind.name} that keras_spot wrote "
            "(choose another, or empty it yourself)"
        )
        raise invalid("path", rule, f"{shown} (holds {some(others)})")
    changed = [name for name, digest in digests.items() if digest != own[name]]
    if changed and not overwrite:
        rule = f"must be a {kind.name} that nobody changed, or `overwrite` be set to replace it"
        raise invalid("path", rule, f"{shown} (changed: {some(changed)})")


def mark(folder: Path, kind: Kind) -> None:
    """Write the marker of all that is in a folder."""
    names = [name for name in listing(folder) if name != MARKER]
    record = {
        "written_by": "keras_spot",
        "version": __version__,
        "kind": kind.name,
        "files": {name: _digest_inside(folder, name) for name in names},
    }
    (folder / MARKER).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def marked_files(marker: str | bytes, kind: Kind) -> dict[str, str]:
    """Return the files that a marker names with their digests, nothing if it is none of that kind.

    >>> marked_files("my own notes", Kind("SavedModel", is_folder=True))
    {}
    """
    try:
        record = json.loads(marker)
        if (record["written_by"], record["kind"]) == ("keras_spot", kind.name):
            return {str(name): str(digest) for name, digest in record["files"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    return {}


def unchanged(folder: Path) -> list[str]:
    """Return the files of a marked folder that are as its marker says, the marker among them."""
    try:
        text = (folder / MARKER).read_bytes()
        own = marked_files(text, Kind(json.loads(text)["kind"], is_folder=True))
    except (ValueError, TypeError, KeyError, RecursionError):
        return []
    names = [name for name in listing(folder) if name in own]
    return [MARKER, *(name for name in names if _digest_inside(folder, name) == own[name])]


def digest(stream: IO[bytes], size: int) -> str:
    """Return a digest of a file's size, first and last mebibyte."""
    digest = hashlib.sha256(str(size).encode())
    digest.update(stream.read(_END))
    stream.seek(max(0, size - _END))
    digest.update(stream.read(_END))
    return digest.hexdigest()


def signed(text: str) -> str:
    """Return a page or a Markdown text with a last line that tells whether it has been changed.

    >>> print(signed("# Title"))
    # Title
    <!-- keras_spot e01b17ff9af77056... -->
    <BLANKLINE>
    """
    text = text if text.endswith("\n") else text + "\n"
    return f"{text}<!-- keras_spot {hashlib.sha256(text.encode()).hexdigest()} -->\n"


def is_signed(file: Path) -> bool:
    """Whether a file holds what `signed` returned."""
    text = file.read_bytes().decode()
    lines = text.splitlines(keepends=True)
    return signed("".join(lines[:-1])) == text


def listing(folder: Path) -> list[str]:
    """Return the paths inside of files, links and empty folders (`name/`), sorted.

    Raises:
        OSError: a folder that cannot be read.
    """
    names = []
    for root, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(SCRATCH)]
        inside = Path(root).relative_to(folder)
        links = [name for name in folders if os.path.islink(os.path.join(root, name))]
        names += [(inside / name).as_posix() for name in (*files, *links)]
        if not folders and not files and root != str(folder):
            names.append(f"{inside.as_posix()}/")
    return sorted(names)


def _top(folder: Path) -> list[str]:
    """Return what lies directly in a folder, sorted: one that is not ours may be the whole disk."""
    with os.scandir(folder) as entries:
        inside = [entry for entry in entries if not entry.name.startswith(SCRATCH)]
    return sorted(e.name + "/" * e.is_dir(follow_symlinks=False) for e in inside)


def _identity(path: Path) -> tuple[int, ...] | None:
    """Return what tells a folder from another of the same name, None where there is none."""
    try:
        known = os.stat(path)
    except FileNotFoundError:
        return None
    return known.st_mode, known.st_dev, known.st_ino, known.st_ctime_ns, known.st_mtime_ns


def _own_files(folder: Path, kind: Kind) -> dict[str, str]:
    marker = folder / MARKER
    if marker.is_symlink() or not marker.is_file():
        return {}
    return marked_files(marker.read_bytes(), kind)


def _digest_inside(folder: Path, name: str) -> str:
    file = folder / name
    if file.is_symlink() or not file.is_file():
        return "link" if file.is_symlink() else "folder"
    with open(file, "rb") as stream:
        return digest(stream, file.stat().st_size)


def _held(name: str, files: Iterable[str]) -> bool:
    """Whether a name is that of a folder, now empty, which one of the files was in."""
    return name.endswith("/") and any(file.startswith(name) for file in files)


def _is_one(test: Callable[[Path], bool] | None, path: Path) -> bool:
    try:
        return test is not None and test(path)
    except Exception:  # what cannot be read as this kind is not of this kind
        return False


def some(names: list[str]) -> str:
    """Return the first names, and how many more there are, for a message."""
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _raise(error: OSError) -> None:
    raise error
