"""Several processes that make one run: where all but the first keep what it writes, a copy."""

import io
import json
import os
import shutil
import tarfile
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_spot.base import hosts
from keras_spot.base.errors import invalid
from keras_spot.base.json_text import to_json
from keras_spot.training.run_folder import RunFolder

__all__ = ["check_alike", "folder_of"]


def folder_of(run_dir: str | os.PathLike[str]) -> RunFolder:
    """Return the folder of a run, on a process that is not the chief a scratch copy of the chief's.

    All processes go through a run together, scores included, and see the same folder when they
    begin; only the chief's is the user's. Whether their hosts share a disk does not matter.
    """
    hosts.join()
    folder = RunFolder(run_dir)
    if hosts.processes() == 1:
        return folder
    if hosts.is_chief():
        hosts.of_chief(_packed(folder.path))  # before the chief changes anything
        return folder
    scratch = tempfile.mkdtemp(prefix="keras_spot-")
    own = RunFolder(Path(scratch) / "run")
    weakref.finalize(own, shutil.rmtree, scratch, ignore_errors=True)
    content = hosts.of_chief(b"")
    if content:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(own.path, filter="data")
    return own


def check_alike(record: Mapping[str, Any]) -> None:
    """Raise InvalidArgument on every process if one is to make another run than the chief.

    Args:
        record: of the run.
    """
    own = json.loads(to_json(record))
    first = json.loads(hosts.of_chief(to_json(record).encode()))
    other = [key for key in sorted({*own, *first}) if own.get(key) != first.get(key)]
    differing = hosts.largest(len(other))
    if differing:
        beside = [f"{key}={own.get(key)!r} beside {first.get(key)!r}" for key in other]
        rule = "must be the same command on each of them"
        received = ", ".join(beside) or f"another with {differing} differences"
        raise invalid("processes", rule, received)


def _packed(folder: Path) -> bytes:
    """Return a folder's files as a tar archive, without locks and TensorBoard's; empty for none."""
    if not folder.is_dir():
        return b""

    def wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        name = Path(entry.name).name
        return None if name.startswith(".") or name == "tensorboard" else entry

    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.add(folder, arcname="", filter=wanted)
    return content.getvalue()
