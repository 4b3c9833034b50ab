"""How two texts stand to each other, as the teacher sees it: similarity, inference, axes.

An inference model of the teacher's embeddings is fitted on the labels of mnli, the only ones that
may be read, and guesses for all other pairs; no other label is used.
"""

import numpy as np

from .corpus import Corpus

INFERENCE = ("entailment", "neutral", "contradiction")
RELATION_AXES = 28
# The cosine, three inference scores, then principal axes of products and distances.
WIDTH = 1 + len(INFERENCE) + RELATION_AXES
# Pairs of one manner, by the source of their first text; the rest is a group of its own.
MANNERS = (
    ("quora_pairs",),
    ("snli",),
    ("glue/mnli", "ling_nli"),
    ("glue/rte", "super_glue/cb", "glue/stsb"),
)
# Sources whose second text is the hypothesis; elsewhere it is the first.
SECOND_FOLLOWS = ("glue/rte", "glue/wnli")


def joint(hypotheses: np.ndarray, premises: np.ndarray) -> np.ndarray:
    """Features of pairs [N, 4 * 384]: both embeddings, their products and distances, each of
    about unit spread."""
    parts = (hypotheses, premises, 8 * hypotheses * premises, abs(hypotheses - premises))
    return np.concatenate(parts, 1) * hypotheses.shape[1] ** 0.5


class Relations:
    """Of the pairs [N, 2] and the teacher's `space`. values: [N, WIDTH], mean 0 and spread 1;
    manner: the group of every pair; oriented: [N, 2], the hypothesis first."""

    def __init__(self, corpus: Corpus, space, pairs: np.ndarray):
        full = space.full
        self.model = self.fit(corpus, full)
        first = np.array([corpus.sources[i] for i in pairs[:, 0]])
        self.manner = np.full(len(pairs), len(MANNERS))
        for number, sources in enumerate(MANNERS):
            self.manner[np.isin(first, sources)] = number
        swap = np.isin(first, SECOND_FOLLOWS)
        self.oriented = np.where(swap[:, None], pairs[:, ::-1], pairs)
        hypotheses, premises = self.oriented.T
        raw = np.zeros((len(pairs), WIDTH), np.float32)
        u, v = space.axes[pairs[:, 0]], space.axes[pairs[:, 1]]
        products = np.concatenate([u * v, abs(u - v)], 1)
        sample = products[:: max(1, len(pairs) // 20000)]
        basis = np.linalg.svd(sample - sample.mean(0), full_matrices=False)[2][:RELATION_AXES]
        raw[:, 4 : 4 + len(basis)] = products @ basis.T
        for start in range(0, len(pairs), 8192):
            part = slice(start, start + 8192)
            h, p = full[hypotheses[part]], full[premises[part]]
            raw[part, 0] = (h * p).sum(1)
            if self.model is not None:
                raw[part, 1:4] = self.model.decision_function(joint(h, p))
        self.values = (raw - raw.mean(0)) / (raw.std(0) + 1e-6)

    @staticmethod
    def fit(corpus: Corpus, full: np.ndarray):
        """Logistic regression for mnli, or None where the rows lack a class."""
        from sklearn.linear_model import LogisticRegression

        known = [
            (ids, INFERENCE.index(label))
            for task, _, label, ids in corpus.rows
            if task == "glue/mnli" and min(ids) >= 0
        ]
        labels = np.array([label for _, label in known])
        if len(set(labels.tolist())) < len(INFERENCE):
            return None
        ids = np.array([i for i, _ in known])
        features = joint(full[ids[:, 0]], full[ids[:, 1]])
        return LogisticRegression(C=3e-4, max_iter=200).fit(features, labels)
