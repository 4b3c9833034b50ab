"""Errors are caught by their type, also out of a data pipeline's threads and other processes."""

import pickle

import pytest

from keras_spot.base import errors, reading
from keras_spot.cli.app import user_message

BUILT_IN = {
    errors.InvalidArgument: ValueError,
    errors.MissingFile: FileNotFoundError,
    errors.MissingExtra: ModuleNotFoundError,
    errors.Unreachable: ConnectionError,
    errors.Diverged: FloatingPointError,
    errors.Unfinished: RuntimeError,
}


def test_every_error_is_also_a_built_in_one_and_survives_another_process():
    assert set(errors.USER_ERRORS) == set(BUILT_IN)
    for kind, built_in in BUILT_IN.items():
        error = kind(errors.complaint("length", "must be positive", 0))
        assert isinstance(error, built_in)
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy)) == (kind, "`length` must be positive. Received: 0")


def _pipeline():
    import tensorflow as tf

    def numbers():
        yield 1
        with errors.in_pipeline():
            raise errors.invalid("row", "must be readable", "row 2")

    return tf.data.Dataset.from_generator(
        numbers, output_signature=tf.TensorSpec([], tf.int32)
    ).prefetch(2)


def test_an_error_in_a_pipeline_comes_out_as_it_was_raised():
    message = r"^`row` must be readable\. Received: row 2$"
    with pytest.raises(errors.InvalidArgument, match=message), errors.unwrapped():
        list(_pipeline())
    assert errors._raised_in_pipelines == []


def test_other_errors_stay_what_they_are():
    with pytest.raises(KeyError), errors.unwrapped():
        next(iter(_pipeline()))
        raise KeyError("mine")


class JaxRuntimeError(RuntimeError):
    """Has the name of JAX's own, which is not always installed."""


def _too_much_for_tensorflow():
    import tensorflow as tf

    return tf.zeros([10**8, 10**8])


def _too_much_for_jax():
    raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4000 bytes.\nat 0x1")


@pytest.mark.parametrize("work", [_too_much_for_tensorflow, _too_much_for_jax])
def test_a_full_memory_is_one_line_and_no_files_fault(work, tmp_path):
    with pytest.raises(Exception) as caught, reading.parsing(tmp_path / "model", "must be a T5"):
        work()
    assert errors.is_memory_full(caught.value)
    message = user_message(caught.value)
    assert message.startswith("the memory is full (")
    assert "a smaller --batch-size" in message
    assert "\n" not in message
    assert "{{" not in message


def test_other_failures_of_a_device_are_no_full_memory():
    assert not errors.is_memory_full(JaxRuntimeError("INTERNAL: failed"))
    assert user_message(JaxRuntimeError("INTERNAL: failed")) is None
    assert user_message(MemoryError()).startswith("the memory is full (MemoryError); ")
