"""Run by test_distribution in its own process: two logical CPUs against one device."""

import json
import pathlib
import sys
import warnings

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras
import numpy as np
import toy

from keras_spot import PromptCheckpoint, PromptedT5, Recipe
from keras_spot.base import devices
from keras_spot.model.losses import TokenCrossEntropy
from keras_spot.model.optimizers import Adafactor


def data():
    # The halves of every batch differ much in how many target tokens they hold.
    x, y, weight = toy.batch(rows=80, targets=6)
    weight[np.arange(80) % 8 < 4, 1:] = 0
    return x, y, weight


def make(num_prompts=None):
    keras.utils.set_random_seed(0)
    initial = keras.initializers.RandomUniform(-0.5, 0.5, seed=1)
    # Adafactor divides every gradient by its own size, so that rounding errors grow with the
    # rate; an error in the normalisation would be hundreds of times larger than 1e-5 here too.
    return PromptedT5(
        toy.shallow(64, gain=None),
        prompt_length=4,
        prompt_initializer=initial,
        recipe=Recipe(learning_rate=0.003),
        num_prompts=num_prompts,
    )


def fit(model):
    x, y, weight = data()
    if model.num_prompts is not None:  # the second replica's rows have one prompt only
        x["prompt_index"] = (np.arange(80) % 8 > 2).astype("int32")
    batches = tf.data.Dataset.from_tensor_slices((x, y, weight)).batch(8, drop_remainder=True)
    history = model.fit(batches.repeat(2), steps_per_epoch=20, verbose=0, shuffle=False)
    return [value[-1] for name, value in history.history.items() if name.endswith("loss")]


def uneven(model):
    """Losses of five rows in batches of one to four, which two replicas cannot share evenly."""
    x, y, weight = keras.tree.map_structure(lambda values: values[:5], data())
    losses = []
    for size in (1, 3, 4):
        batches = tf.data.Dataset.from_tensor_slices((x, y, weight)).batch(size)
        losses.append(model.evaluate(batches, verbose=0)[0])
    options = {"batch_size": 5, "validation_data": batches, "verbose": 0}
    history = model.fit(x, y, sample_weight=weight, **options).history
    return [*losses, *history["loss"], *history["val_loss"]]


def generate(model):
    x, _, _ = data()
    batch = {key: value[:7] for key, value in x.items()}
    batch["decoder_token_ids"] = np.zeros((7, 6), "int32")
    batch["decoder_padding_mask"] = np.eye(1, 6, dtype="int32").repeat(7, 0)
    out = model.make_generate_function()(batch, stop_token_ids=(1,))
    return np.asarray(out["decoder_token_ids"]).tolist()


def refused(strategy):
    """Compile with what cannot be right and return the messages."""
    wrong = {
        "clipping": {"optimizer": Adafactor(global_clipnorm=1.0)},
        "accumulation": {"optimizer": Adafactor(gradient_accumulation_steps=2)},
        "averages": {"optimizer": Adafactor(use_ema=True)},
        "jit": {"jit_compile": True},
        "executions": {"steps_per_execution": 4},
        "reduction": {
            "loss": keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, reduction="mean_with_sample_weight"
            )
        },
    }
    messages = {}
    with strategy.scope():
        model = make()
        for name, options in wrong.items():
            try:
                model.compile(**options)
                messages[name] = None
            except ValueError as error:
                messages[name] = str(error)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            PromptedT5(toy.shallow(64), prompt_length=2, dropout=0.1)
        messages["dropout"] = [str(w.message) for w in caught if "dropout" in str(w.message)]
    return messages


def saved(strategy):
    """Return how far a run of 4 + 4 steps with checkpoints ends from one of 8."""
    x, y, weight = (keras.tree.map_structure(lambda v: v[:64], part) for part in data())
    prompts = []
    for name, parts in (("whole", [64]), ("halves", [32, 64])):
        done = 0
        for rows in parts:
            with strategy.scope():
                model = make()
            part = keras.tree.map_structure(lambda v: v[done:rows], (x, y, weight))
            done = rows
            batches = tf.data.Dataset.from_tensor_slices(part).batch(8, drop_remainder=True)
            callback = PromptCheckpoint(f"{sys.argv[1]}.{name}", every=4)
            model.fit(batches, callbacks=[callback], verbose=0, shuffle=False)
        prompts.append(model.prompt)
    return float(np.abs(prompts[0] - prompts[1]).max())


one = make()
one_loss = fit(one)
strategy = devices.devices("mirrored").strategy
with strategy.scope():
    two = make()
two_loss = fit(two)
one_bank = make(num_prompts=2)
bank_losses = [fit(one_bank)]
with strategy.scope():
    two_bank = make(num_prompts=2)
bank_losses.append(fit(two_bank))
banks = [float(np.abs(one_bank.prompt - two_bank.prompt).max()), *bank_losses]
moved = np.abs(one.prompt - make().prompt).max()
with strategy.scope():
    inside = devices.replicas()
results = {
    "replicas": inside,
    "jit": bool(two.jit_compile),
    "moved": float(moved),
    "difference": float(np.abs(one.prompt - two.prompt).max()),
    "losses": [one_loss, two_loss],
    "same": generate(one) == generate(two),
    "optimizer": isinstance(two.optimizer, Adafactor) and isinstance(two.loss, TokenCrossEntropy),
    "steps": int(keras.ops.convert_to_numpy(two.optimizer.iterations)),
    "saved": saved(strategy),
    "banks": banks,
    "refused": refused(strategy),
    "uneven": [uneven(one), uneven(two)],
}
pathlib.Path(sys.argv[1]).write_text(json.dumps(results))
