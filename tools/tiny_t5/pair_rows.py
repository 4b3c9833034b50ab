"""Rows of two texts: how they stand to each other."""

import numpy as np

from .corpus import Corpus
from .pseudo_tasks import KIND, PAIR_KINDS, RELATION_KINDS
from .relations import INFERENCE, MANNERS, Relations
from .rows import AXES, Rows

# Questions first, then captions, sentences of many kinds, news, the rest.
SHARES = (0.3, 0.22, 0.28, 0.14, 0.06)


class PairRows:
    """Adds rows of two texts to a batch; draws and encodes with `sampler`."""

    def __init__(self, sampler, corpus: Corpus, pairs: np.ndarray):
        self.sampler, self.pairs = sampler, pairs
        self.relations = Relations(corpus, sampler.space, pairs)
        manners = [np.flatnonzero(self.relations.manner == m) for m in range(len(MANNERS) + 1)]
        self.manners = [m if len(m) else np.arange(len(pairs)) for m in manners]

    def add_relation(self, rows: Rows) -> None:
        """A named question about a pair that the teacher answers with confidence; asked by a
        prefix or by a prompt."""
        s, number = self.sampler, int(self.sampler.rng.integers(len(RELATION_KINDS)))
        # Most questions are what many tasks ask: are they alike, does one follow?
        if s.rng.random() < 0.6:
            number = s.pick((0, 0, 1, 2, 4))
        kind = RELATION_KINDS[number]
        members = self.manners[int(s.rng.choice(len(self.manners), p=SHARES))]
        drawn = members[s.rng.integers(len(members), size=12)]
        values = self.relations.values[drawn]
        side = int(s.rng.integers(3 if kind == "inference" else 2))
        if kind == "inference":
            scores = values[:, 1:4]
            scores = scores[:, side] - np.delete(scores, side, 1).max(1)
            pair = drawn[s.extreme(scores, 0, 4)]
        else:
            column = number if number < 4 else number - 1
            pair = drawn[s.extreme(values[:, column], side, 4)]
        first, second = self.relations.oriented[pair]
        fields = None
        if number in range(1, 5):
            # As in the tasks there are: the premise is sentence1, or the hypothesis comes first.
            fields = ("hypothesis:", "premise:")
            if s.rng.random() < 0.4:
                first, second, fields = second, first, ("sentence1:", "sentence2:")
        elif s.rng.random() < 0.5:
            first, second = second, first
        known = (s.space.axes[first], s.space.axes[second])
        texts = (s.texts[first], s.texts[second])
        common = {"known": known, "relation": self.relations.values[pair]}
        if s.rng.random() < 0.35:
            fields = fields or ("sentence1:", "sentence2:")
            name = s.encode(f"task{16 + number} {fields[0]}")
            parts = [(name, 0), (texts[0], 1), (s.encode(fields[1]), 0), (texts[1], 2)]
            prompt = s.prompt() if s.rng.random() < 0.5 else None
            rows.add(parts, s.usual(KIND[kind])[side], prompt=prompt, **common)
            return
        answers = s.answers(len(INFERENCE) if kind == "inference" else 2, KIND[kind])
        rows.add(
            s.couple(*texts, fields),
            answers[side],
            prompt=s.prompt(answers),
            kind=KIND[kind],
            usual=answers == s.usual(KIND[kind]),
            sampled=s.haze(),
            **common,
        )

    def add_pair(self, rows: Rows) -> None:
        """A pair as it was read, one with a stranger, with a part of itself, or on a plane."""
        s = self.sampler
        kind = s.pick(PAIR_KINDS)
        side, plane = int(s.rng.integers(2)), None
        named = s.rng.random() < 0.5
        answers = s.usual(KIND[kind]) if named else s.answers(2, KIND[kind])
        pairs = self.pairs[s.rng.integers(len(self.pairs), size=12)]
        axes = s.space.axes
        first, second = pairs[0]
        segments = None
        if kind == "same pair":
            if side:
                # The nearest of twelve other seconds: a hard stranger.
                others = pairs[1:, 1]
                second = others[int(np.argmax(s.space.full[others] @ s.space.full[second]))]
        elif kind in ("difference", "side of first", "side of second"):
            plane = s.plane()
            scores = {
                "difference": axes[pairs[:, 0]] - axes[pairs[:, 1]],
                "side of first": axes[pairs[:, 0]],
                "side of second": axes[pairs[:, 1]],
            }[kind] @ plane
            first, second = pairs[s.extreme(scores, side)]
        else:
            ids = s.texts[first]
            width = max(3, int(len(ids) * s.rng.uniform(0.4, 0.9)))
            at = int(s.rng.integers(max(1, len(ids) - width + 1)))
            crop = ids[at : at + width]
            if side and kind == "contained":
                other = s.texts[second]
                crop = other[:width]
            elif side:
                crop = crop.copy()
                crop[int(s.rng.integers(len(crop)))] = s.pick(s.texts[second])
            segments = (ids, crop) if s.rng.random() < 0.5 else (crop, ids)
        known = () if segments else (axes[first], axes[second])
        segments = segments or (s.texts[first], s.texts[second])
        if named and plane is None:
            name = s.encode(f"{kind} sentence1:")
            parts = [(name, 0), (segments[0], 1), (s.encode("sentence2:"), 0), (segments[1], 2)]
            rows.add(
                parts,
                answers[side],
                known=known,
                prompt=s.prompt() if s.rng.random() < 0.5 else None,
            )
            return
        rows.add(
            s.couple(*segments),
            answers[side],
            prompt=s.prompt(answers),
            plane=None if plane is None else plane * AXES**0.5,
            kind=KIND[kind],
            known=known,
            usual=answers == s.usual(KIND[kind]),
            sampled=s.haze(),
        )
