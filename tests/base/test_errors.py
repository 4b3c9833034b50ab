"""Errors are caught by their type, also out of a data pipeline's threads and other processes."""

import pickle

import pytest

from keras_spot.base import errors

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
