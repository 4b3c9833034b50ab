"""The input pipeline: load, format, tokenise, bucket, batch, mix. The only user of `tf.data`.

A task's rows come through TFDS (or from files) in blocks, become texts in plain Python and
token ids in one tokenizer call a block, and fall into buckets of similar length.
"""

from keras_spot.data.batches import BUCKETS
from keras_spot.data.labels import DataWarning, check_labels
from keras_spot.data.load import load_bank, load_examples, load_mixture, load_task
from keras_spot.data.options import LoadOptions
from keras_spot.data.sources import prepare
from keras_spot.data.survey import Survey, set_target_length, survey, target_limit

__all__ = [
    "BUCKETS",
    "DataWarning",
    "LoadOptions",
    "Survey",
    "check_labels",
    "load_bank",
    "load_examples",
    "load_mixture",
    "load_task",
    "prepare",
    "set_target_length",
    "survey",
    "target_limit",
]
