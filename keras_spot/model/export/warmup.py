"""TensorFlow Serving's warm-up file: requests that a server makes of itself before it is ready.

It is a TFRecord of `tensorflow.serving.PredictionLog`, of which only these fields are written:

    PredictionLog.predict_log = 6, PredictLog.request = 1
    PredictRequest.model_spec = 1, .inputs = 2 (a map: key = 1, value = 2)
    ModelSpec.signature_name = 3

They are spelled out here in protobuf's wire format, since the package that has the messages brings
a second TensorFlow along.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

__all__ = ["write"]

FOLDER, NAME = "assets.extra", "tf_serving_warmup_requests"


def write(folder: str | os.PathLike, requests: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Write the warm-up file of a SavedModel.

    Args:
        folder: of the SavedModel.
        requests: a signature's name and its inputs, each.
    """
    place = os.path.join(folder, FOLDER)
    os.makedirs(place, exist_ok=True)
    with tf.io.TFRecordWriter(os.path.join(place, NAME)) as file:
        for signature, inputs in requests:
            file.write(_log(signature, inputs))


def _log(signature: str, inputs: Mapping[str, Any]) -> bytes:
    """Return a serialised `PredictionLog` of one request.

    >>> _log("f", {})
    b'2\\x07\\n\\x05\\n\\x03\\x1a\\x01f'
    """
    request = _field(1, _field(3, signature.encode()))
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(2, _field(1, name.encode()) + _field(2, tensor))
    return _field(6, _field(1, request))


def _field(number: int, value: bytes) -> bytes:
    """Return a field of a message: its number, its length and its bytes."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    """Return a number in groups of seven bits, the lowest first.

    >>> _varint(300)
    b'\\xac\\x02'
    """
    groups = b""
    while number >= 128:
        groups += bytes([number & 127 | 128])
        number >>= 7
    return groups + bytes([number])
