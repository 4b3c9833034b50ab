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
CHECKPOINT = "checkpoint.npz"
# Token cross-entropy; distance from the teacher of the pooled encoder, and of what the decoder's
# first layer has read; of the difference of two texts, as read; cross-entropy of which of them a
# piece belongs to; squared error of how two texts stand to each other, as the second layer
# tells; cross-entropy of which pieces they share. Each with what its sum is divided by.
LOSSES = {
    "entropy": "tokens",
    "distance": "known",
    "unread": "known",
    "confused": "both",
    "misplaced": "paired",
    "unrelated": "related",
    "unmatched": "compared",
}


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
        self.path = folder / CHECKPOINT
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

    def train(self, sampler: Sampler, end: int, steps: int, save_every: int = 250) -> None:
        """Train until step `end` of `steps`; every 100 steps a line of means goes to
        `losses.jsonl`."""
        learner, optimizer = self.learner, self.optimizer

        @tf.function
        def update(*parts):
            with tf.GradientTape() as tape:
                losses = [learner.losses_of(part) for part in parts]
                hits = [part.pop("hit") for part in losses]
                sums = {name: tf.add_n([part[name] for part in losses]) for name in losses[0]}
                losses = [sums[name] / (sums[count] + 1e-6) for name, count in LOSSES.items()]
                loss = tf.add_n(losses)
            optimizer.apply(
                tape.gradient(loss, learner.trainable_variables), learner.trainable_variables
            )
            return losses, tf.concat(hits, 0)

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
        while self.step < end:
            batch = batches.get()
            optimizer.learning_rate.assign(rate(self.step, steps, self.peak))
            arrays = [{k: tf.constant(v) for k, v in part.items()} for part in batch]
            means, hit = update(*arrays)
            losses.append([float(mean) for mean in means])
            kinds = np.concatenate([part["kind"] for part in batch])
            usual = np.concatenate([part["usual"] for part in batch])
            for kind, known, value in zip(kinds, usual, hit.numpy(), strict=True):
                kind = KINDS[kind] + (" (usual answers)" if known else "")
                hits.setdefault(kind, []).append(value)
            self.step += 1
            if self.step % AVERAGE_EVERY == 0:
                # A short average early on, when the weights still move far.
                decay = min(AVERAGE_DECAY, self.step / (self.step + 100))
                for i, v in enumerate(learner.t5.weights):
                    self.average[i] = decay * self.average[i] + (1 - decay) * v.numpy()
            if self.step % REPORT_EVERY == 0 or self.step == end:
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
            if self.step % save_every == 0 or self.step == end:
                self.write()
        ended.set()
        producer.join()
