"""Two names exchanged at once, and names that are on disk as their bytes are."""

import contextlib
import ctypes
import errno
import functools
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["exchange", "sync_folder", "sync_tree"]

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)


def exchange(first: str | os.PathLike, second: str | os.PathLike) -> bool:
    """Exchange what two names stand for, so that at no moment one of them stands for nothing.

    Returns:
        False where the system or the file system cannot; then nothing has changed.

    Raises:
        OSError: one of the names is not there, or may not be renamed.
    """
    rename = _renameat2()
    if rename is None:
        return False
    names = os.fsencode(first), os.fsencode(second)
    if rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNKNOWN:
        return False
    raise OSError(code, os.strerror(code), os.fspath(first), None, os.fspath(second))


def sync_folder(folder: str | os.PathLike) -> None:
    """Put a folder's names on disk; without it a name may be lost with the power.

    File systems that cannot do that for folders are left alone.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # of systems that do not open folders
        return
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and those it lies in where they are missing, each with its name on disk.

    Raises:
        OSError: it cannot be made there.
    """
    missing = list(itertools.takewhile(lambda place: not place.is_dir(), (folder, *folder.parents)))
    folder.mkdir(parents=True, exist_ok=True)
    for made in reversed(missing):
        sync_folder(made.parent)


def sync_tree(folder: str | os.PathLike[str]) -> None:
    """Put all files and names below a folder on disk.

    Raises:
        OSError: the disk is full, or broken.
    """
    for root, _, names in os.walk(os.fspath(folder)):
        for name in names:
            path = os.path.join(root, name)
            if not os.path.islink(path):
                handle = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
        sync_folder(root)


@functools.cache
def _renameat2() -> Callable[..., Any] | None:
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return None
    function.argtypes = [
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_uint,
    ]
    function.restype = ctypes.c_int
    return function
