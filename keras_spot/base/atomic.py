"""Files and folders that are either whole or absent, and never take the place of another's."""

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from keras_spot.base import leftovers, ownership
from keras_spot.base.errors import naming_file
from keras_spot.base.ownership import Kind
from keras_spot.base.swap import exchange, make_folder, sync_folder, sync_tree

__all__ = ["Check", "atomic_folder", "atomic_write"]

Check = Callable[[Path], list[str] | None]
_TRIES = 20  # to take a name that others of us take at the same time


@contextlib.contextmanager
def atomic_write(
    path: str | os.PathLike, mode: str = "wb", kind: Kind | None = None, overwrite: bool = False
) -> Iterator[IO]:
    """Open a temporary file beside `path` that takes its name when the block ends well.

    The bytes are on disk before the name is, so a reader, a full disk or a kill in
    between never meets half a file; if the block raises, an older file stays as it was.
    Through a link the file it leads to is written; a device or pipe gets the bytes at the end.

    Args:
        path: where the file shall be; its folder is made if it is missing.
        mode: `"wb"` or `"w"` (UTF-8 text).
        kind: what is written, see `ownership.check`: another's file is not replaced. Default:
            any is, for a folder of our own.
        overwrite: replace any file.

    Raises:
        InvalidArgument: a file is there that is not of that kind.
        OSError: the folder cannot be made or written to, or the disk is full.
    """
    ownership.check_name(path)
    path = Path(path)
    encoding = None if "b" in mode else "utf-8"
    if path.exists() and not path.is_file() and not path.is_dir():
        with tempfile.TemporaryFile(mode + "+", encoding=encoding) as file:
            yield file
            file.seek(0)
            with open(path, mode, encoding=encoding) as device:
                shutil.copyfileobj(file, device)
        return
    path, shown = Path(os.path.realpath(path)), str(path)
    ownership.check_file(path, kind, overwrite, shown)
    make_folder(path.parent)
    _tidy(path.parent)
    lead = leftovers.prefix(f".{path.name}.")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=lead)
    try:
        with naming_file(shown):
            with open(handle, mode, encoding=encoding) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            older = ownership.check_file(path, kind, overwrite, shown)
            os.chmod(temporary, stat.S_IMODE(older.st_mode) if older else 0o666 & ~_umask())
            os.replace(temporary, path)
            sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike, kind: Kind, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder that takes the name `path` when the block ends well.

    An older folder of that name stays until then, and stays if the block raises. It is replaced
    only if it is of the same kind and nobody has put anything into it, see `ownership.check`.
    A folder that is there and empty, or must stay in its place (the current one, a mount point),
    gets the new files one after the other instead, its marker last.

    Args:
        path: where the folder shall be; links are followed.
        kind: what is written.
        overwrite: also replace an older one whose own files have changed.

    Raises:
        InvalidArgument: the folder holds what is not our own earlier work, now or when the block
            ends.
        OSError: the folder cannot be made there, or `path` is a file.
    """
    ownership.check_name(path)
    shown, path = os.fspath(path), Path(os.path.realpath(path))

    def check(folder: Path) -> list[str] | None:
        return ownership.check_folder(folder, kind, overwrite, shown)

    there = check(path)
    make_folder(path.parent)
    _tidy(path.parent)
    fill = there is not None and (not there or _is_fixed(path))
    lead = leftovers.prefix(f"{ownership.SCRATCH}{path.name}.")
    scratch = Path(tempfile.mkdtemp(dir=path if fill else path.parent, prefix=lead))
    new, ready = scratch / "new", scratch / "ready"
    try:
        with naming_file(shown):
            new.mkdir()
            yield new
            ownership.mark(new, kind)
            sync_tree(new)
            # From here on it may be the older one, and what lies under this name is looked at.
            os.rename(new, ready)
            sync_folder(scratch)
            (_fill if fill else _swap)(path, ready, scratch, check)
            sync_folder(path if fill else path.parent)
    finally:
        for place in (new, ready):
            shutil.rmtree(place, ignore_errors=True)
        _remove_empty(scratch)


def _is_fixed(path: Path) -> bool:
    """Whether a folder must stay where it is: others stand in it, or its place is not ours."""
    here = Path.cwd()
    stood_in = path == here or path in here.parents
    return stood_in or os.path.ismount(path) or not os.access(path.parent, os.W_OK)


def _swap(path: Path, new: Path, scratch: Path, check: Check) -> None:
    """Give a folder's name to the new one; the older one goes if it is still our own."""
    for number in range(_TRIES):
        old = scratch / f"old{number}"
        names: list[str] | None = None
        try:
            if not check(path):
                os.rename(new, path)
            elif (names := _exchanged(path, new, check)) is not None:
                os.rename(new, old)
            else:
                os.rename(path, old)
                # Once more, now that nobody finds it by its name.
                names = check(old)
                os.rename(new, path)
        except BaseException as error:
            if old.exists() and not os.path.lexists(path):
                with contextlib.suppress(OSError):
                    os.rename(old, path)
            # Another writer of ours may have been quicker: then once more.
            if not isinstance(error, OSError) or number == _TRIES - 1:
                raise
        if old.exists():
            _remove(old, names or [])
        if not new.exists():
            return


def _exchanged(path: Path, new: Path, check: Check) -> list[str] | None:
    """Exchange two folders, so that the name always stands for one.

    Returns:
        What is in the older one, now where the new one was; None where no exchange can be.

    Raises:
        ValueError: somebody put a file into the older one meanwhile; it is back under its name.
    """
    shutil.copymode(path, new)
    if not exchange(path, new):
        return None
    try:
        return check(new) or []  # the older one, now that nobody finds it by its name
    except BaseException:
        exchange(path, new)
        raise


def _tidy(folder: Path) -> None:
    """Clear away what dead processes have left in a folder, and end what they had begun.

    A folder that a kill left without its name gets it back. Of what stood there before only the
    files are removed that its marker names, unchanged.
    """
    for place in leftovers.left_in(folder):
        with contextlib.suppress(OSError):
            if place.is_symlink() or not place.is_dir():
                place.unlink()
            elif place.name.startswith(ownership.SCRATCH):
                _end(place, folder)


def _end(scratch: Path, folder: Path) -> None:
    lead = leftovers.lead_of(scratch.name) or ""
    path = folder / lead.removeprefix(ownership.SCRATCH).removesuffix(".")
    inside = sorted(scratch.iterdir(), reverse=True)
    for place in inside:
        if place.name.startswith("old") and not os.path.lexists(path):
            os.rename(place, path)
        elif place.name == "new":  # half of it
            shutil.rmtree(place)
        elif (place / ownership.MARKER).is_file():
            _remove(place, ownership.unchanged(place))
    _remove_empty(scratch)


def _fill(path: Path, new: Path, scratch: Path, check: Check) -> None:
    """Give a folder other contents, its marker last."""
    old = scratch / "old"
    old.mkdir()
    there = [name for name in os.listdir(path) if not name.startswith(ownership.SCRATCH)]
    for name in there:
        os.rename(path / name, old / name)
    try:
        names = check(old)
    except BaseException:
        for name in there:
            os.rename(old / name, path / name)
        raise
    for name in sorted(os.listdir(new), key=lambda name: (name == ownership.MARKER, name)):
        os.rename(new / name, path / name)
    _remove(old, names or [])


def _remove(folder: Path, names: list[str]) -> None:
    """Remove these files, and then the folders that are empty.

    The marker goes last: by it a later process knows what a kill has left.
    """
    for name in sorted(names, key=lambda name: name == ownership.MARKER):
        if not name.endswith("/"):
            (folder / name).unlink()
    _remove_empty(folder)


def _remove_empty(folder: Path) -> None:
    """Remove a folder with its empty folders.

    Raises:
        OSError: a file is in it, put there after we looked; it stays.
    """
    for root, _, _ in os.walk(folder, topdown=False):
        try:
            os.rmdir(root)
        except OSError as error:
            raise OSError(errno.ENOTEMPTY, "kept, for somebody put a file into it", root) from error


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
