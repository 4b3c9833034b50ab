"""Run by test_hosts: one process of those that train a model together, or the only one."""

import json
import os
import signal
import sys

import numpy as np
import toy
from sharded_toy import CONFIG, ROWS, data, generate, make

from keras_spot import PromptCheckpoint, backbones, devices
from keras_spot.base import errors, hosts
from keras_spot.prompts.initializers import base
from keras_spot.training.interrupts import Signals
from keras_spot.training.mirrors import check_alike, folder_of

folder, *layouts = sys.argv[1:]
x, y, weight = data(4 * ROWS)


def trained(layout, callbacks=()):
    """Return the layout's name, a model that is trained in it, and its losses."""
    picked = devices(layout)
    with picked.scope():
        model = make()
    options = {"batch_size": ROWS, "shuffle": False, "verbose": 0, "callbacks": callbacks}
    history = model.fit(x, y, sample_weight=weight, **options).history
    return picked, model, history["loss"]


picked, model, losses = trained(layouts[0], [PromptCheckpoint(folder, every=2)])
outcome = {"name": picked.name, "chief": hosts.is_chief(), "losses": losses}
outcome |= {"prompt": model.prompt.tolist(), "answers": generate(model)}
outcome["others"] = {}
for layout in layouts[1:]:
    _, other, losses = trained(layout)
    outcome["others"][layout] = {"prompt": other.prompt.tolist(), "losses": losses}
copy = folder_of(folder)  # goes with the object
outcome["files"] = sorted(str(file.relative_to(copy.path)) for file in copy.path.rglob("*.np[yz]"))
with devices("model").scope():  # each process has its own columns of the embedding
    backbone = toy.shallow(**CONFIG)
    matrix = backbone.token_embedding.embeddings
    backbones.load(backbone, quantize="int4")
outcome["quantized"] = backbones.fingerprint(backbone)
outcome["table"] = float(np.abs(base.table(matrix)).sum())
outcome["held"] = float(np.prod(model.soft_prompt.prompt.shape))
signals = Signals()
with signals.noted():
    if hosts.processes() > 1 and not hosts.is_chief():
        os.kill(os.getpid(), signal.SIGTERM)
    signals.agree()
    signals.received = None  # it is not given once more
outcome["stopping"] = signals.stopping
try:
    check_alike({"task": "movies", "steps": 4 if hosts.is_chief() else 5})
except errors.InvalidArgument as error:
    outcome["unlike"] = str(error)
print(json.dumps(outcome))
