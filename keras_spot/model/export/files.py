"""Keras' other formats under the same guard as ours."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from keras_spot.base import remote
from keras_spot.base.atomic import atomic_write
from keras_spot.base.ownership import Kind

__all__ = ["PRESET", "export_files"]

PRESET = Kind("model preset", is_folder=True)
_OTHER = Kind("exported model")


def export_files(
    export: Callable[[str], object], path: str | os.PathLike, overwrite: bool = False
) -> None:
    """Let Keras write one of its other formats, whole or not at all.

    Args:
        export: writes to the path that it is given, perhaps with files beside it.
        path: where the file shall be; may be an address.
        overwrite: replace the files that are there.

    Raises:
        InvalidArgument: a file is there.
    """
    path = Path(path)
    remote.may_write(path, _OTHER, overwrite)
    with tempfile.TemporaryDirectory() as scratch:
        export(str(Path(scratch, path.name)))
        made = sorted(file for file in Path(scratch).rglob("*") if file.is_file())
        places = [path.parent / file.relative_to(scratch) for file in made]
        for place in places:
            remote.may_write(place, _OTHER, overwrite)
        for file, place in zip(made, places):
            with (
                remote.writing(place, _OTHER, overwrite) as local,
                atomic_write(local, kind=_OTHER, overwrite=overwrite) as sink,
                open(file, "rb") as source,
            ):
                shutil.copyfileobj(source, sink)
