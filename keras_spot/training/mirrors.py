"""Where the processes that are not the chief keep what a run writes: in a copy that goes away."""

import os
import shutil
import tempfile
import weakref
from pathlib import Path

from keras_spot.base import hosts
from keras_spot.training.run_folder import RunFolder

__all__ = ["folder_of"]


def folder_of(run_dir: str | os.PathLike[str]) -> RunFolder:
    """Return the folder of a run, on a process that is not the chief a scratch copy of it.

    All processes go through a run together, scores included, and see the same folder when they
    begin; only the chief's is the user's.
    """
    hosts.join()
    folder = RunFolder(run_dir)
    if hosts.processes() == 1:
        return folder
    if hosts.is_chief():
        hosts.wait("keras_spot copied")  # before the chief changes anything
        return folder
    scratch = tempfile.mkdtemp(prefix="keras_spot-")
    copy = Path(scratch) / "run"
    if folder.path.is_dir():
        shutil.copytree(folder.path, copy, ignore=shutil.ignore_patterns(".*", "tensorboard"))
    hosts.wait("keras_spot copied")
    own = RunFolder(copy)
    weakref.finalize(own, shutil.rmtree, scratch, ignore_errors=True)
    return own
