"""A run's log for TensorBoard, with TensorFlow alone."""

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_spot.base.reading.files import reason
from keras_spot.base.swap import sync_tree

__all__ = ["ScalarWriter"]


class ScalarWriter:
    """Writes scalar summaries, whatever Keras computes with.

    Args:
        folder: where the events go.

    Raises:
        OSError: by each method: the folder cannot be written to, or the disk is full.
    """

    def __init__(self, folder: Path):
        import tensorflow as tf

        self._folder = folder
        with self._naming():  # bytes, for a path need not be UTF-8
            self._writer = tf.summary.create_file_writer(os.fsencode(folder))

    def write(self, line: Mapping[str, Any], step: int) -> None:
        """Write the numbers of a line."""
        import tensorflow as tf
        from tensorflow.core.framework import summary_pb2

        # tf.summary.scalar lives in the tensorboard package; its metadata is just this.
        metadata = summary_pb2.SummaryMetadata()
        metadata.plugin_data.plugin_name = "scalars"
        with self._naming():
            with self._writer.as_default():
                for name, value in line.items():
                    if name.rpartition("/")[2] not in ("step", "best"):
                        tf.summary.write(name, tf.constant(value, tf.float32), step, metadata)
            self._writer.flush()

    def close(self) -> None:
        """Close the file, and put it on disk."""
        with self._naming():
            self._writer.close()
        sync_tree(self._folder)

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        """Turn TensorFlow's errors into the system's, which names the folder."""
        import tensorflow as tf

        try:
            yield
        except (tf.errors.OpError, UnicodeDecodeError) as error:  # of a message with its name
            raise OSError(errno.EIO, reason(error), os.fspath(self._folder)) from error
