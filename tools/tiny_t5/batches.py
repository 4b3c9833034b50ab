"""Training rows of the tiny T5, drawn at random and without end.

The first `PROMPT` positions of a pseudo-task's row hold its answer words and sampled vocabulary;
the network adds to them a vector made from the plane (`plane`) and the kind of question (`kind`),
as a tuned prompt would.
"""

import re

import numpy as np

from .corpus import Corpus
from .pair_rows import PairRows
from .pseudo_tasks import (
    FIELDS,
    GROUPS,
    KIND,
    KINDS,
    LABELS,
    NAMES,
    PAIR_FIELDS,
    USUAL_ANSWERS,
)
from .rows import AXES, LONG, PAIRS, PROMPT, SHORT, Rows, Space


class Sampler:
    """Draws batches; `vocabulary` is a SentencePiece processor, `seed` makes the draws."""

    def __init__(self, corpus: Corpus, embeddings: np.ndarray, vocabulary, seed: int):
        self.rng = np.random.default_rng(seed)
        self.space = Space(embeddings)
        self.pieces = vocabulary
        self.size = vocabulary.get_piece_size()
        self.texts = [np.array(i, np.int32) for i in vocabulary.encode(corpus.texts)]
        self.lengths = np.array([len(t) for t in self.texts])
        sources = np.array(corpus.sources)
        short = (self.lengths <= 30) & (self.lengths >= 4)
        self.pools = [np.flatnonzero(short & (sources == s)) for s in np.unique(sources)]
        self.pools = [p for p in self.pools if len(p) >= 64] or [np.flatnonzero(short)]
        self.named = []
        for group, axes in GROUPS:
            pool = np.flatnonzero(short & np.isin(sources, group))
            if len(pool) >= AXES:
                centred = self.space.axes[pool] - self.space.axes[pool].mean(0)
                basis = np.linalg.svd(centred[:20000], full_matrices=False)[2]
            else:
                pool, basis = np.flatnonzero(short), np.eye(AXES, dtype=np.float32)
            self.named += [(pool, (f"{a} of {group[0]}", basis[a])) for a in range(axes)]
        # Sources of opinion and everyday prose are many and short; the root evens the others.
        share = np.sqrt([len(p) for p in self.pools])
        self.share = share / share.sum()
        fits = [p for p in corpus.pairs if sum(self.lengths[list(p)]) <= 54]
        self.pair_rows = PairRows(self, corpus, np.array(fits, np.int64))
        self.rows: dict[str, list] = {}
        for task, text, label, known in corpus.rows:
            parts = self.split(text)
            if sum(len(ids) for ids, _ in parts) <= (34 if task in ("subj", "trec") else 58):
                self.rows.setdefault(task, []).append((parts, label, known))
        self.labels = {t: sorted({r[1] for r in rows}) for t, rows in self.rows.items()}
        self.documents = [np.array(i, np.int32) for i in vocabulary.encode(corpus.documents)]
        names = [vocabulary.id_to_piece(i) for i in range(min(3000, self.size))]
        words = [n[1:] for n in names if n[0] == "\u2581" and n[1:].isalpha() and len(n) > 3]
        words = words[:600] + list(LABELS) * 6
        self.words = [(w, vocabulary.encode(w)) for w in words]
        self.cache: dict[str, list[int]] = {}

    # === Pieces of rows ===

    def split(self, text: str) -> list[tuple[list[int], int]]:
        """Ids of a supervised input's parts with the segment that each belongs to."""
        parts = re.match(r"(\S+ \S+:) (.*?)(?: (premise:|sentence:|sentence2:) (.*))?$", text)
        head, first, field, second = parts.groups()
        parts = [(head, 0), (first, 1), (field, 0), (second, 2)]
        return [(self.pieces.encode(part), segment) for part, segment in parts if part]

    def encode(self, text: str) -> list[int]:
        if text not in self.cache:
            self.cache[text] = self.pieces.encode(text)
        return self.cache[text]

    def pick(self, options):
        return options[int(self.rng.integers(len(options)))]

    def usual(self, kind: int) -> list[list[int]]:
        return [self.encode(word) for word in USUAL_ANSWERS[kind].split()]

    def answers(self, count: int, kind: int | None = None) -> list[list[int]]:
        """Words for a row's answers: the kind's own pair, the pair of any kind, or words drawn
        anew."""
        draw = self.rng.random()
        if kind is not None and draw < 0.5 and len(self.usual(kind)) == count:
            return self.usual(kind)
        if kind is not None and draw < 0.85 and count == 2:
            return self.usual(int(self.rng.integers(len(KINDS))))[:2]
        chosen: dict[str, list[int]] = {}
        while len(chosen) < count:
            word, ids = self.pick(self.words)
            chosen[word] = ids
        return list(chosen.values())

    def haze(self) -> float:
        """Mostly none, else any share: prompts are easier to learn alone, but a tuned prompt
        starts amid sampled vocabulary."""
        return float(max(0.0, self.rng.uniform(-1.5, 1.0)))

    def prompt(self, answers=()) -> np.ndarray:
        """Sampled vocabulary [PROMPT], the answers' pieces in the first slots."""
        ids = self.rng.integers(3, min(5000, self.size - 100), PROMPT).astype(np.int32)
        for i, answer in enumerate(answers):
            slot = ids[2 * i : 2 * i + 2]
            slot[:] = (answer * 2)[:2]
        return ids

    def single(self, ids, segment=1):
        name, field = self.pick(NAMES), self.pick(FIELDS)
        return [(self.encode(f"{name} {field}".strip()) if name + field else [], 0), (ids, segment)]

    def couple(self, first, second, fields=None):
        name, (a, b) = self.pick(NAMES), fields or self.pick(PAIR_FIELDS)
        return [
            (self.encode(f"{name} {a}".strip()), 0),
            (first, 1),
            (self.encode(b), 0),
            (second, 2),
        ]

    def plane(self) -> np.ndarray:
        """A direction of the teacher's space, length 1: an axis, a mixture or a difference."""
        draw = self.rng.random()
        direction = np.zeros(AXES, np.float32)
        if draw < 0.3:
            direction[int(self.rng.integers(48))] = self.pick((-1.0, 1.0))
        elif draw < 0.6:
            direction = self.rng.normal(size=AXES).astype(np.float32)
        else:
            i, j = self.rng.choice(self.pick(self.pools), 2, replace=False)
            direction = self.space.axes[i] - self.space.axes[j]
        return direction / (np.linalg.norm(direction) + 1e-6)

    def extreme(self, scores: np.ndarray, side: int, share: int = 3) -> int:
        """A candidate of the upper (side 0) or lower (side 1) third, or another share."""
        order = np.argsort(-scores if side == 0 else scores)
        return int(order[int(self.rng.integers(max(1, len(order) // share)))])

    # === Kinds of rows ===

    def add_side(self, rows: Rows) -> None:
        """On which side of a plane, drawn for this row, does the text lie?"""
        pool = self.pools[int(self.rng.choice(len(self.pools), p=self.share))]
        candidates = pool[self.rng.integers(len(pool), size=24)]
        plane, side, answers = self.plane(), int(self.rng.integers(2)), self.answers(2)
        text = candidates[self.extreme(self.space.axes[candidates] @ plane, side)]
        rows.add(
            self.single(self.texts[text]),
            answers[side],
            prompt=self.prompt(answers),
            plane=plane * AXES**0.5,
            kind=KIND["side"],
            known=(self.space.axes[text],),
            sampled=self.haze(),
        )

    def add_axis(self, rows: Rows) -> None:
        """On which side of its group does the text lie on an axis? Named by a prefix or by a
        prompt."""
        number, (pool, axis) = self.pick(list(enumerate(self.named)))
        kind, side = KIND[f"axis {axis[0]}"], int(self.rng.integers(2))
        candidates = pool[self.rng.integers(len(pool), size=20)]
        text = candidates[self.extreme(self.space.axes[candidates] @ axis[1], side, 5)]
        known = (self.space.axes[text],)
        if self.rng.random() < 0.4:
            answers = self.usual(kind)
            prompt = self.prompt() if self.rng.random() < 0.5 else None
            name = self.encode(f"task{number} sentence:")
            rows.add([(name, 0), (self.texts[text], 1)], answers[side], prompt=prompt, known=known)
        else:
            answers = self.answers(2, kind)
            rows.add(
                self.single(self.texts[text]),
                answers[side],
                prompt=self.prompt(answers),
                kind=kind,
                known=known,
                usual=answers == self.usual(kind),
                sampled=self.haze(),
            )

    def corrupt(self, ids: np.ndarray, kind: str) -> np.ndarray:
        ids = ids.copy()
        n = len(ids)
        if kind == "shuffled":
            return ids[self.rng.permutation(n)]
        at = int(self.rng.integers(n - 1))
        if kind == "swapped":
            ids[[at, at + 1]] = ids[[at + 1, at]]
        else:
            ids[at] = self.rng.integers(3, self.size - 100)
        return ids

    def add_form(self, rows: Rows) -> None:
        """Is the text as it was written? Or, for `long`, has it more than 14 pieces?"""
        kind = self.pick(("shuffled", "swapped", "replaced", "long"))
        text = self.pick(self.pools[int(self.rng.choice(len(self.pools), p=self.share))])
        ids, side = self.texts[text], int(self.rng.integers(2))
        answers = self.answers(2, KIND[kind])
        if kind == "long":
            side = int(len(ids) > 14)
        elif side:
            ids = self.corrupt(ids, kind)
        known = (self.space.axes[text],) if kind == "long" or not side else ()
        rows.add(
            self.single(ids),
            answers[side],
            prompt=self.prompt(answers),
            kind=KIND[kind],
            known=known,
            usual=answers == self.usual(KIND[kind]),
            sampled=self.haze(),
        )

    def add_supervised(self, rows: Rows, task: str) -> None:
        """A labelled row: with its own labels, or prompted with words in their place."""
        labels = self.labels[task]
        wanted = self.pick(labels)
        for _ in range(20):
            parts, label, known = self.pick(self.rows[task])
            if label == wanted:
                break
        vectors = [self.space.axes[k] if k >= 0 else None for k in known]
        draw = self.rng.random()
        if draw < 0.4 and len(labels) <= 3:
            answers = self.answers(len(labels), KIND[task])
            rows.add(
                parts,
                answers[labels.index(label)],
                prompt=self.prompt(answers),
                kind=KIND[task],
                known=vectors,
                usual=answers == self.usual(KIND[task]),
                sampled=self.haze(),
            )
        else:
            prompt = self.prompt() if draw < 0.7 else None
            rows.add(parts, self.encode(label), prompt=prompt, known=vectors)

    def running_text(self, length: int) -> np.ndarray:
        if self.documents and self.rng.random() < 0.4:
            ids = self.pick(self.documents)
        else:
            ids = np.concatenate(
                [self.texts[i] for i in self.rng.integers(len(self.texts), size=3)]
                if self.rng.random() < 0.3
                else [self.texts[int(self.rng.integers(len(self.texts)))]]
            )
        start = int(self.rng.integers(max(1, len(ids) - length + 1)))
        return ids[start : start + length]

    def add_spans(self, rows: Rows) -> None:
        """Span corruption (Raffel et al. 2020, §3.1.4): 15% in spans of about 3, one sentinel
        for each span."""
        ids = self.running_text(64)
        sentinel, source, target, at = self.size - 1, [], [], 0
        budget = max(1, round(0.15 * len(ids)))
        spans = max(1, round(budget / 3))
        starts = np.sort(self.rng.choice(len(ids), min(spans, len(ids)), replace=False))
        for start in starts:
            if start < at:
                continue
            width = min(max(1, round(budget / spans)), len(ids) - start)
            source += [*ids[at:start], sentinel]
            target += [sentinel, *ids[start : start + width]]
            sentinel, at = sentinel - 1, start + width
        rows.add([([*source, *ids[at:]], 0)], target, weight=0.4)

    def add_continuation(self, rows: Rows) -> None:
        """Prefix LM (Lester et al. 2021): read the first part of a text, write the next pieces."""
        ids = self.running_text(48)
        cut = int(self.rng.integers(1, max(2, len(ids))))
        rows.add([(ids[:cut], 0)], list(ids[cut : cut + LONG.targets - 1]), weight=0.4)

    def batch(self) -> tuple[dict, dict, dict]:
        """Three parts: single texts, pairs and running text."""
        short, pairs, long = Rows(SHORT), Rows(PAIRS), Rows(LONG)
        for _ in range(13):
            self.add_axis(short)
        self.add_side(short)
        self.add_form(short)
        for task in ("subj", "subj", "trec", "trec", "trec"):
            self.add_supervised(short, task)
        for _ in range(28):
            self.pair_rows.add_relation(pairs)
        for _ in range(4):
            self.pair_rows.add_pair(pairs)
        for task in ("glue/mnli",) * 9 + ("glue/qnli",) * 3:
            self.add_supervised(pairs, task)
        for _ in range(3):
            self.add_spans(long)
        self.add_continuation(long)
        return short.arrays(), pairs.arrays(), long.arrays()
