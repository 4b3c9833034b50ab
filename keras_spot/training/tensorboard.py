"""A run's log for TensorBoard, with TensorFlow alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class ScalarWriter:
    """Writes scalar summaries, nothing on other backends.

    Args:
        folder: where the events go.
    """

    def __init__(self, folder: Path):
        import keras

        self._writer = None
        if keras.config.backend() == "tensorflow":
            import tensorflow as tf

            self._writer = tf.summary.create_file_writer(str(folder))

    def write(self, line: Mapping[str, Any], step: int) -> None:
        """Write the numbers of a line."""
        if self._writer is None:
            return
        import tensorflow as tf
        from tensorflow.core.framework import summary_pb2

        # tf.summary.scalar lives in the tensorboard package; its metadata is just this.
        metadata = summary_pb2.SummaryMetadata()
        metadata.plugin_data.plugin_name = "scalars"
        with self._writer.as_default():
            for name, value in line.items():
                if name.rpartition("/")[2] not in ("step", "best"):
                    tf.summary.write(name, tf.constant(value, tf.float32), step, metadata)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
