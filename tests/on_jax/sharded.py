"""Run by test_sharded in its own process: eight host devices against one."""

import json
import pathlib
import sys
import tempfile
import warnings

import jax
import keras
import numpy as np
import toy
from sharded_toy import CONFIG, ROWS, STEPS, data, generate, make

from keras_spot import PromptCheckpoint, PromptedT5, Recipe, backbones, build, devices, train
from keras_spot.backbones.converters.architecture import Architecture
from keras_spot.base import layouts
from tools import load_big


def fit(model, folder=None, start=0, end=STEPS):
    part = keras.tree.map_structure(lambda v: v[start * ROWS : end * ROWS], data())
    if model.num_prompts is not None:
        part[0]["prompt_index"] = (np.arange(len(part[1])) % 8 > 2).astype("int32")
    callbacks = [] if folder is None else [PromptCheckpoint(folder, every=2)]
    options = {"batch_size": ROWS, "shuffle": False, "verbose": 0}
    history = model.fit(*part[:2], sample_weight=part[2], callbacks=callbacks, **options)
    return model.prompt, history.history["loss"][0]


def compare(layout, options):
    """Return how far a model over several devices is from one device, and what it holds."""
    one = make(**options)
    prompt, loss = fit(one)
    answers = None if one.num_prompts else generate(one)
    picked = devices(layout)
    with picked.scope(), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        several = make(**options)
    other, other_loss = fit(several)
    weights = several.backbone.weights
    held = sum(w.value.addressable_shards[0].data.nbytes for w in weights)
    projector = several.backbone.encoder_transformer_layers[0].output_projector
    scale = getattr(projector, "kernel_scale", None)
    return {
        "prompt": float(np.abs(prompt - other).max()),
        "loss": abs(other_loss / loss - 1),
        "answers": answers is None or answers == generate(several),
        "share": held / sum(w.value.nbytes for w in weights),
        "fingerprint": several.fingerprint == one.fingerprint,
        "name": picked.name,
        "slow": [str(one.message) for one in told if "heads" in str(one.message)],
        "scale": None if scale is None else [*scale.value.addressable_shards[0].data.shape],
    }


def resumed():
    """Return how far a run that goes on on another layout ends from one on one device."""
    folder = tempfile.mkdtemp()
    whole, _ = fit(make())
    with devices("fsdp:8").scope():
        fit(make(), folder, 0, 2)
    with devices("data:4,model:2").scope():
        rest = make()
    prompt, _ = fit(rest, folder, 2)
    return float(np.abs(whole - prompt).max())


def uneven():
    """Return how far batches that cannot be dealt out evenly are from one device.

    The optimiser and the metrics are made outside the scope of the devices.
    """
    x, y, weight = data(7)  # five, and two that count half as much in the mean of the losses
    results = []
    for layout in ("one_device", "data:4"):
        keras.utils.set_random_seed(0)
        with devices(layout).scope():
            model = PromptedT5(toy.shallow(gain=None, **CONFIG), prompt_length=4)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
        options = {"batch_size": 5, "verbose": 0}
        history = model.fit(x, y, sample_weight=weight, shuffle=False, **options).history
        scores = history["loss"] + model.evaluate(x, y, sample_weight=weight, **options)
        with devices(layout).scope():
            logits = model.predict(x, **options)
        results.append((model.prompt, np.array(scores), logits))
    return max(float(np.abs(one - other).max()) for one, other in zip(*results, strict=True))


def ran():
    """Return what a run of batches of three rows over two groups of devices records."""
    _, tokenizer = backbones.load("tiny")
    with devices("data:2,model:4").scope():
        backbone = toy.shallow(8000, gain=None, **CONFIG)
    folder = pathlib.Path(tempfile.mkdtemp()) / "run"
    recipe = Recipe(prompt_length=4, batch_size=3, steps=2, checkpoint_every=2)
    options = {"tokenizer": tokenizer, "recipe": recipe, "validation_split": "", "progress": None}
    train("synthetic/movies", folder, backbone=backbone, devices="data:2,model:4", **options)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    devices_used = json.loads((folder / "run.json").read_text())["devices"]
    return devices_used, [json.loads(line)["step"] for line in lines]


def of_texts():
    """Return whether texts are answered and ranked as on one device, five of them by fours."""
    texts = [f"movies sentence: a {word} film" for word in ("fine", "dull", "long", "new", "bad")]
    results = []
    for layout in ("one_device", "fsdp:2,model:4"):
        with devices(layout).scope():
            model = build("tiny", np.full((3, 256), 0.1, "float32"), target_length=4)
        ranked = model.ranker.log_likelihoods(texts, ["good", "very bad"], batch_size=4)
        results.append((model.generate(texts, batch_size=4), ranked))
    (answers, ranked), (other_answers, other_ranked) = results
    return answers == other_answers, float(np.abs(ranked - other_ranked).max())


def loaded():
    """Return whether each device of a layout holds its own part of the file's weights alone."""
    size = Architecture(64, 32, 2, 1, 4, 8, 64, "gelu_new", gated=True, tied=False)
    folder = pathlib.Path(tempfile.mkdtemp())
    load_big.write(folder, size, shards=2)
    whole, _ = backbones.load(folder, dtype="bfloat16")
    results = {}
    for layout in ("model:8", "data:2,model:4", "fsdp:4,model:2"):
        with devices(layout).scope():
            parts, _ = backbones.load(folder, dtype="bfloat16")
        layouts.check_sharded(parts.variables)
        pairs = [*zip(whole.weights, parts.weights, strict=True)]
        equal = all(np.array_equal(np.asarray(a.value), np.asarray(b.value)) for a, b in pairs)
        kernel = parts.decoder_transformer_layers[0].cross_attention.query_projector.kernel
        held = {shard.data.shape for shard in kernel.value.addressable_shards}
        results[layout] = [equal, *held]
    model = make()
    model.save(folder / "model.keras")
    with devices("model:8").scope():
        again = keras.saving.load_model(folder / "model.keras")
    layouts.check_sharded(again.backbone.variables)
    results["file"] = again.fingerprint == model.fingerprint
    return results


def halves():
    mesh = keras.distribution.distribution().device_mesh
    return keras.distribution.TensorLayout([None, "model"], mesh)


def broken():
    raise RuntimeError("Unable to initialize backend 'tpu': it is in use\nby another")


def refused():
    messages = {}

    def note(name, call):
        try:
            call()
            messages[name] = None
        except ValueError as error:
            messages[name] = str(error)

    note("too many", lambda: devices("model:16"))
    note("two open", lambda: devices("data,model"))
    note("two of batches", lambda: devices("data:2,fsdp:4"))
    note("unknown", lambda: devices("fdsp:8"))
    note("no tpu", lambda: devices("tpu"))
    present, jax.devices = jax.devices, broken
    note("no platform", lambda: devices("auto"))
    jax.devices = present
    whole = make()
    with devices("data:8").scope():
        note("made outside", lambda: fit(whole))
    with devices("model:3").scope():
        note("uneven preset", lambda: backbones.load("tiny"))
    with devices("model:8").scope():
        note("uneven", lambda: toy.backbone(vocabulary=60))
        backbone = toy.backbone(gain=None, **CONFIG)
        kernel = backbone.encoder_transformer_layers[0].input_projector.kernel
        kernel._value = np.asarray(kernel.value)
        kernel._value = keras.ops.convert_to_tensor(kernel._value)
        note("replicated", lambda: PromptedT5(backbone))
    with devices("fsdp:4,model:2").scope():
        backbone = toy.backbone(gain=None, **CONFIG)
        kernel = backbone.encoder_transformer_layers[0].input_projector.kernel
        kernel._value = keras.distribution.distribute_tensor(kernel.value, halves())
        note("half spread", lambda: PromptedT5(backbone))
    return messages


cases = {
    "data": ("data", {}),
    "model": ("model:8", {}),
    "both": ("data:2,model:4", {"prompt_attention": "causal", "remat": True, "quantize": "int8"}),
    "fsdp": ("fsdp:8", {"prompt_attention": "prompt"}),
    "bank": ("fsdp:4,model:2", {"num_prompts": 2, "quantize": "int4", "remat": True}),
}
outcome = {name: compare(*case) for name, case in cases.items()}
outcome |= {"uneven": uneven(), "ran": ran()}
outcome |= {"resumed": resumed(), "texts": of_texts(), "loaded": loaded(), "refused": refused()}
print(json.dumps(outcome), file=sys.__stdout__)
