"""The input pipeline: load, format, tokenise, bucket, batch, mix. The only user of `tf.data`.

A task's rows come through TFDS (or from files) in blocks, become texts in plain Python and
token ids in one tokenizer call a block, and fall into buckets of similar length.
"""

from keras_spot.data.batches import BUCKETS
from keras_spot.data.load import load_bank, load_examples, load_mixture, load_task
from keras_spot.data.sources import prepare

__all__ = ["BUCKETS", "load_bank", "load_examples", "load_mixture", "load_task", "prepare"]
