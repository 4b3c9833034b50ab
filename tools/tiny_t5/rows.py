"""The teacher's space, and rows of token ids as the network reads them."""

import dataclasses

import numpy as np

from .relations import WIDTH

PROMPT = 20
ANSWER_SLOTS = 6  # two pieces for each of up to three answers
AXES = 128


@dataclasses.dataclass
class Shape:
    """Rows, encoder positions and decoder positions of one part of a batch."""

    rows: int
    inputs: int
    targets: int


SHORT = Shape(20, 56, 5)
PAIRS = Shape(44, 80, 5)
LONG = Shape(4, 64, 16)


class Space:
    """The teacher's embeddings: `full` normalised [N, 384], `axes` [N, 128] with the spread of
    the strong principal axes lowered to its square root, so that small ones count too."""

    def __init__(self, embeddings: np.ndarray):
        self.full = np.asarray(embeddings, np.float32)
        centred = self.full - self.full.mean(0)
        _, spread, basis = np.linalg.svd(
            centred[:: max(1, len(centred) // 20000)], full_matrices=False
        )
        size = min(AXES, len(spread))
        scale = (spread[:size] / spread[0]) ** -0.5
        self.axes = np.zeros((len(centred), AXES), np.float32)
        self.axes[:, :size] = (centred @ basis[:size].T) * scale
        self.axes /= np.linalg.norm(self.axes, axis=1, keepdims=True) + 1e-6


class Rows:
    """One part of a batch under construction; arrays named as the network reads them."""

    def __init__(self, shape: Shape):
        b, t, d = shape.rows, shape.inputs, shape.targets
        self.shape = shape
        self.count = 0
        self.ids = np.zeros((b, t), np.int32)
        self.segment = np.zeros((b, t), np.int8)
        self.targets = np.zeros((b, d), np.int32)
        self.weights = np.zeros((b, d), np.float32)
        self.plane = np.zeros((b, AXES), np.float32)
        self.kind = np.zeros(b, np.int32)
        self.usual = np.zeros(b, bool)
        self.prompted = np.zeros(b, np.float32)
        self.sampled = np.ones(b, np.float32)
        self.known = np.zeros((b, 2, AXES), np.float32)
        self.known_weight = np.zeros((b, 2), np.float32)
        self.relation = np.zeros((b, WIDTH), np.float32)
        self.relation_weight = np.zeros(b, np.float32)

    def add(
        self,
        parts,
        target,
        *,
        prompt=None,
        plane=None,
        kind=0,
        known=(),
        relation=None,
        usual=False,
        sampled=1.0,
        weight=1.0,
    ):
        """Append a row. parts: list of (ids, segment); known: up to two embeddings or None;
        relation: what the teacher makes of a pair; sampled: how much of the sampled vocabulary
        shows behind a pseudo-task's prompt."""
        r, at = self.count, 0
        self.count += 1
        if prompt is not None:
            self.ids[r, :PROMPT] = prompt
            self.prompted[r] = 1.0
            at = PROMPT
        end = self.shape.inputs - 1
        for ids, segment in parts:
            n = min(len(ids), end - at)
            self.ids[r, at : at + n] = ids[:n]
            self.segment[r, at : at + n] = segment
            at += n
        self.ids[r, at] = 1
        target = [*target[: self.shape.targets - 1], 1]
        self.targets[r, : len(target)] = target
        self.weights[r, : len(target)] = weight
        if plane is not None:
            self.plane[r] = plane
        self.kind[r] = kind
        self.sampled[r] = sampled
        self.usual[r] = usual
        if relation is not None:
            self.relation[r], self.relation_weight[r] = relation, 1.0
        for i, vector in enumerate(known):
            if vector is not None:
                self.known[r, i], self.known_weight[r, i] = vector, 1.0

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name; the rows are complete."""
        assert self.count == self.shape.rows, (self.count, self.shape.rows)
        return {k: v for k, v in vars(self).items() if isinstance(v, np.ndarray)}
