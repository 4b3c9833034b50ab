"""Names of temporary files and folders by which a later process knows whose they were.

    .prompt.npz.1f0c9a7e-4711-83350-x2k9w0ab

A name ends in a hash of the host (and boot, and process namespace), the process, when it started,
and letters by chance. What a dead process of this host has left may be cleared away; what another
host's may still be writing, and every other name, stays.
"""

import functools
import hashlib
import os
import re
from pathlib import Path

from keras_spot.base.claims import identity, is_alive

__all__ = ["lead_of", "left_in", "prefix"]

_LONGEST = 180  # letters of a name before the process, of the 255 that a file system takes
_NAME = re.compile(r"(\..+[.-])([0-9a-f]{8})-([0-9]{1,10})-([0-9]{1,20})-[a-z0-9_]{8}")
_looked: set[str] = set()


def prefix(lead: str) -> str:
    """Return the prefix of a temporary name for `tempfile`, which adds eight letters.

    Args:
        lead: how it begins: a dot first, a dot or a hyphen last.
    """
    me = identity()
    cut = lead if len(os.fsencode(lead)) <= _LONGEST else f"{lead[: _LONGEST // 4]}."
    return f"{cut}{_host()}-{me['pid']}-{me['started'] or 0}-"


def lead_of(name: str) -> str | None:
    """Return how the temporary name of a dead process of this host begins, None for others.

    >>> lead_of(prefix(".prompt.npz.") + "x2k9w0ab"), lead_of(".bashrc")
    (None, None)
    """
    match = _NAME.fullmatch(name)
    if match is None or match[2] != _host():
        return None
    owner = {"pid": int(match[3]), "started": int(match[4]) or None}
    return None if is_alive(owner) else match[1]


def left_in(folder: str | os.PathLike) -> list[Path]:
    """Return what dead processes of this host have left in a folder.

    A process looks once at each folder, for it may write to it thousands of times.
    """
    place = os.path.realpath(folder)
    if place in _looked:
        return []
    _looked.add(place)
    try:
        return [Path(place, name) for name in os.listdir(place) if lead_of(name) is not None]
    except OSError:
        return []


@functools.cache
def _host() -> str:
    host = identity()["host"].encode("utf-8", "replace")
    return hashlib.sha256(host).hexdigest()[:8]
