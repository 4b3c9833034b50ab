"""A toy whose every side eight devices can share, and its data."""

import keras
import numpy as np
import toy

from keras_spot import PromptedT5, Recipe, backbones

CONFIG = dict(num_heads=4, key_value_dim=8, hidden_dim=32, intermediate_dim=64)
STEPS, ROWS = 3, 16


def data(rows=STEPS * ROWS):
    # The halves of every batch differ much in how many target tokens they hold.
    x, y, weight = toy.batch(rows=rows, tokens=12, targets=4)
    weight[np.arange(rows) % ROWS < ROWS // 2, 1:] = 0
    return x, y, weight


def make(quantize=None, **options):
    keras.utils.set_random_seed(0)
    initial = keras.initializers.RandomUniform(-0.5, 0.5, seed=1)
    backbone, _ = backbones.load(toy.backbone(gain=None, **CONFIG), quantize=quantize)
    return PromptedT5(
        backbone,
        prompt_length=4,
        prompt_initializer=initial,
        recipe=Recipe(learning_rate=0.003),
        **options,
    )


def generate(model):
    x, _, _ = data(5)
    start = {"decoder_token_ids": np.zeros((5, 6), "int32")}
    start["decoder_padding_mask"] = np.eye(1, 6, dtype="int32").repeat(5, 0)
    return np.asarray(model.make_generate_function()({**x, **start})["decoder_token_ids"]).tolist()
