"""The training loop: Adafactor with parameter scaling, checkpoints, a weight average."""

import json
import os
import pathlib
import queue
import threading
import time

import keras
import numpy as np
import tensorflow as tf

from .batches import Sampler
from .network import Learner
from .pseudo_tasks import KINDS

AVERAGE_EVERY, AVERAGE_DECAY = 10, 0.96
REPORT_EVERY = 100
# Token cross-entropy; distance from the teacher of the pooled encoder, and of what the decoder's
# first layer has read; cross-entropy of which pieces two texts share.
LOSSES = ("entropy", "distance", "unread", "unmatched")


def rate(step: int, steps: int, peak: float) -> float:
    """The learning rate: `peak`, and a straight line down to 3% of it over the last 45%."""
    return peak * max(0.03, min(1.0, (step + 1) / 100, (1.0 - step / steps) / 0.45))


class Run:
    """Training state that can be written and read back: weights, slots, average and step."""

    def __init__(self, learner: Learner, folder: pathlib.Path, peak: float):
        self.learner, self.folder, self.peak = learner, folder, peak
        self.optimizer = keras.optimizers.Adafactor(peak, relative_step=False)
        self.optimizer.build(learner.trainable_variables)
        self.average = [v.numpy() for v in learner.t5.weights]
        self.step = 0
        self.path = folder / "checkpoint.npz"
        if self.path.exists():
            self.read()

    def variables(self):
        return [*self.learner.weights, *self.optimizer.variables]

    def read(self) -> None:
        with np.load(self.path) as data:
            for i, variable in enumerate(self.variables()):
                variable.assign(data[f"v{i}"])
            self.average = [data[f"a{i}"] for i in range(len(self.average))]
            self.step = int(data["step"])

    def write(self) -> None:
        arrays = {f"v{i}": v.numpy() for i, v in enumerate(self.variables())}
        arrays |= {f"a{i}": a for i, a in enumerate(self.average)} | {"step": np.array(self.step)}
        temporary = self.folder / "checkpoint.partial.npz"
        np.savez(temporary, **arrays)
        os.replace(temporary, self.path)

    def train(self, sampler: Sampler, steps: int, save_every: int = 250) -> None:
        """Train until `steps`; a line of means goes to `losses.jsonl` every 100 steps."""
        learner, optimizer = self.learner, self.optimizer

        @tf.function
        def update(short, long):
            with tf.GradientTape() as tape:
                a, b = learner.losses_of(short), learner.losses_of(long)
                entropy = (a["entropy"] + b["entropy"]) / (a["tokens"] + b["tokens"])
                distance = (a["distance"] + b["distance"]) / (a["known"] + b["known"])
                unread = (a["unread"] + b["unread"]) / (a["known"] + b["known"])
                unmatched = b["unmatched"] / b["compared"]
                loss = entropy + distance + unread + unmatched
            optimizer.apply(
                tape.gradient(loss, learner.trainable_variables), learner.trainable_variables
            )
            return (entropy, distance, unread, unmatched), tf.concat([a["hit"], b["hit"]], 0)

        batches: queue.Queue = queue.Queue(maxsize=4)
        ended = threading.Event()

        def produce():
            while not ended.is_set():
                batch = sampler.batch()
                while not ended.is_set():
                    try:
                        batches.put(batch, timeout=1.0)
                        break
                    except queue.Full:
                        continue

        producer = threading.Thread(target=produce, daemon=True)
        producer.start()
        losses, hits, begun = [], {}, time.time()
        while self.step < steps:
            batch = batches.get()
            optimizer.learning_rate.assign(rate(self.step, steps, self.peak))
            halves = [{k: tf.constant(v) for k, v in half.items()} for half in batch]
            parts, hit = update(*halves)
            losses.append([float(part) for part in parts])
            kinds = np.concatenate([half["kind"] for half in batch])
            usual = np.concatenate([half["usual"] for half in batch])
            for kind, known, value in zip(kinds, usual, hit.numpy(), strict=True):
                kind = KINDS[kind] + (" (usual answers)" if known else "")
                hits.setdefault(kind, []).append(value)
            self.step += 1
            if self.step % AVERAGE_EVERY == 0:
                # A short average early on, when the weights still move far.
                decay = min(AVERAGE_DECAY, self.step / (self.step + 100))
                for i, v in enumerate(learner.t5.weights):
                    self.average[i] = decay * self.average[i] + (1 - decay) * v.numpy()
            if self.step % REPORT_EVERY == 0 or self.step == steps:
                means = np.mean(losses, 0).round(4).tolist()
                line = {
                    "step": self.step,
                    **dict(zip(LOSSES, means, strict=True)),
                    "seconds": round((time.time() - begun) / len(losses), 3),
                    "hits": {k: round(float(np.mean(v)), 3) for k, v in sorted(hits.items())},
                }
                with open(self.folder / "losses.jsonl", "a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                losses, hits, begun = [], {}, time.time()
            if self.step % save_every == 0 or self.step == steps:
                self.write()
        ended.set()
        producer.join()
