"""What the tiny T5 reads: single texts, pairs of texts, supervised rows and running text.

Held-out targets give texts of their train split only; MRPC and CoLA give none; sources of prompt
transfer give texts without labels. Every sentence that stands in a held-out validation split, in
MRPC or in CoLA is dropped wherever it occurs.
"""

import dataclasses
import itertools
import json
import pathlib
import re

import numpy as np

from keras_spot.tasks import synthetic_data

# Dataset folder, version, split, features that are read as texts (two features form a pair).
READ = (
    ("glue/sst2", "2.0.0", "train", ("sentence",)),
    ("mr", "1.0.0", "train", ("sentence",)),
    ("subj", "1.0.0", "train", ("sentence",)),
    ("mpqa", "1.0.0", "train", ("sentence",)),
    ("trec", "1.0.0", "train", ("text",)),
    ("snli", "1.1.0", "train", ("hypothesis", "premise")),
    ("snli", "1.1.0", "test", ("hypothesis", "premise")),
    ("ling_nli", "1.0.0", "train", ("hypothesis", "premise")),
    ("quora_pairs", "1.0.0", "train", ("question1", "question2")),
    ("glue/mnli", "2.0.0", "train", ("hypothesis", "premise")),
    ("glue/mnli", "2.0.0", "validation_matched", ("hypothesis", "premise")),
    ("glue/qnli", "2.0.0", "validation", ("question", "sentence")),
    ("glue/rte", "2.0.0", "train", ("sentence1", "sentence2")),
    ("glue/stsb", "2.0.0", "train", ("sentence1", "sentence2")),
    ("glue/wnli", "2.0.0", "train", ("sentence1", "sentence2")),
    ("super_glue/wic", "1.0.2", "train", ("sentence1", "sentence2")),
    ("super_glue/boolq", "1.0.2", "train", ("question", "passage")),
    ("super_glue/cb", "1.0.2", "train", ("hypothesis", "premise")),
    ("super_glue/copa", "1.0.2", "train", ("choice1", "premise")),
    ("super_glue/copa", "1.0.2", "train", ("choice2", "premise")),
    ("super_glue/wsc", "1.0.2", "train", ("text",)),
    ("imdb_reviews/plain_text", "1.0.0", "train", ("text",)),
)
# Splits whose every sentence is kept out of the reading.
FORBIDDEN = (
    ("glue/cola", "2.0.0", ("train", "validation"), ("sentence",)),
    ("glue/mrpc", "2.0.0", ("train", "validation"), ("sentence1", "sentence2")),
    ("glue/sst2", "2.0.0", ("validation",), ("sentence",)),
    ("glue/stsb", "2.0.0", ("validation",), ("sentence1", "sentence2")),
    ("glue/rte", "2.0.0", ("validation",), ("sentence1", "sentence2")),
    ("super_glue/rte", "1.0.2", ("validation",), ("premise", "hypothesis")),
    ("super_glue/cb", "1.0.2", ("validation",), ("premise", "hypothesis")),
    ("super_glue/copa", "1.0.2", ("validation",), ("premise", "choice1", "choice2")),
    ("super_glue/boolq", "1.0.2", ("validation",), ("question", "passage")),
    ("super_glue/wic", "1.0.2", ("validation",), ("sentence1", "sentence2")),
)
# Supervised tasks: dataset, version, split, input format, label feature.
SUPERVISED = (
    ("glue/mnli", "2.0.0", "train", "mnli hypothesis: {hypothesis} premise: {premise}", "label"),
    (
        "glue/mnli",
        "2.0.0",
        "validation_matched",
        "mnli hypothesis: {hypothesis} premise: {premise}",
        "label",
    ),
    ("glue/qnli", "2.0.0", "validation", "qnli question: {question} sentence: {sentence}", "label"),
    ("glue/wnli", "2.0.0", "train", "wnli sentence1: {sentence1} sentence2: {sentence2}", "label"),
    ("subj", "1.0.0", "train", "subj sentence: {sentence}", "label"),
    ("trec", "1.0.0", "train", "trec text: {text}", "label-coarse"),
)
SEGMENT_WORDS = 44
SYNTHETIC_ROWS = 600


@dataclasses.dataclass
class Corpus:
    """texts: unique segments; pairs: [N, 2] indices into texts; rows: supervised (task, input,
    target, text indices); documents: running text for span corruption."""

    texts: list[str]
    sources: list[str]
    pairs: list[tuple[int, int]]
    rows: list[tuple[str, str, str, tuple[int, ...]]]
    documents: list[str]


def normalised(text: str) -> str:
    """Letters and digits of a text, the key by which two copies of a sentence are recognised."""
    return "".join(re.findall(r"[a-z0-9]+", text.lower()))


def sentences(text: str) -> list[str]:
    """Sentences of a text; longer ones are cut at `SEGMENT_WORDS` words."""
    text = re.sub(r"<[^>]{1,6}>", " ", text)
    text = re.sub(r"\s+", " ", text).strip()
    segments = []
    for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z\"'(0-9])", text):
        words = sentence.split(" ")
        for start in range(0, len(words), SEGMENT_WORDS):
            segment = " ".join(words[start : start + SEGMENT_WORDS])
            if len(segment) > 2:
                segments.append(segment)
    return segments


def read(data_dir: pathlib.Path, name: str, version: str, split: str, limit: int | None = None):
    """Rows of a prepared TFDS directory as plain Python values."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(pathlib.Path(data_dir) / name / version))
    labels = {k: f.names for k, f in builder.info.features.items() if hasattr(f, "names")}
    dataset = builder.as_dataset(split=split)
    for row in tfds.as_numpy(dataset.take(limit) if limit else dataset):
        plain = {}
        for key, value in row.items():
            if isinstance(value, bytes):
                value = value.decode("utf-8")
            elif key in labels:
                value = labels[key][int(value)] if int(value) >= 0 else None
            plain[key] = value
        yield plain


def build(data_dir: pathlib.Path, limit: int | None = None, log=print) -> Corpus:
    """Read every dataset of `READ` and `SUPERVISED` (at most `limit` rows of each split)."""
    forbidden: set[str] = set()
    for name, version, splits, keys in FORBIDDEN:
        for split in splits:
            for row in read(data_dir, name, version, split):
                for key in keys:
                    forbidden.add(normalised(row[key]))
                    forbidden.update(normalised(s) for s in sentences(row[key]))
    index: dict[str, int] = {}
    texts, sources, pairs, rows, documents = [], [], [], [], []
    dropped = 0

    def add(text: str, source: str) -> list[int]:
        nonlocal dropped
        ids = []
        for segment in sentences(text):
            key = normalised(segment)
            if not key or key in forbidden:
                dropped += 1
                continue
            if key not in index:
                index[key] = len(texts)
                texts.append(segment)
                sources.append(source)
            ids.append(index[key])
        return ids

    for name, version, split, keys in READ:
        for row in read(data_dir, name, version, split, limit):
            ids = [add(row[key], name) for key in keys]
            if len(keys) == 2 and all(ids):
                pairs.append((ids[0][0], ids[1][0]))
            for kept in ids:
                if len(kept) > 1:
                    documents.append(" ".join(texts[i] for i in kept))
    # The package's own grammar, without its labels, so that its words are known.
    for config, (_, keys, _) in synthetic_data.CONFIGS.items():
        for row in itertools.islice(synthetic_data.rows(config, "train"), limit or SYNTHETIC_ROWS):
            ids = [add(row[key], f"synthetic/{config}") for key in keys]
            if len(keys) == 2 and all(ids):
                pairs.append((ids[0][0], ids[1][0]))
    for name, version, split, template, label in SUPERVISED:
        for row in read(data_dir, name, version, split, limit):
            keys = re.findall(r"{(\w+)}", template)
            segments = [sentences(row[key]) for key in keys]
            known = [index.get(normalised(s[0]), -1) if len(s) == 1 else -1 for s in segments]
            if row[label] is None or any(normalised(s) in forbidden for k in segments for s in k):
                continue
            rows.append((name, template.format(**row), row[label], tuple(known)))
    log(
        f"corpus: {len(texts)} texts, {len(pairs)} pairs, {len(rows)} supervised rows, "
        f"{len(documents)} documents; {dropped} held-out segments dropped"
    )
    return Corpus(texts, sources, pairs, rows, documents)


def save(corpus: Corpus, path: pathlib.Path) -> None:
    """Write the corpus as one JSON file."""
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(dataclasses.asdict(corpus)))
    temporary.replace(path)


def load(path: pathlib.Path) -> Corpus:
    """Read what `save` wrote."""
    data = json.loads(path.read_text())
    data["pairs"] = [tuple(p) for p in data["pairs"]]
    data["rows"] = [(a, b, c, tuple(d)) for a, b, c, d in data["rows"]]
    return Corpus(**data)


def counts(corpus: Corpus) -> dict[str, int]:
    """Texts by source."""
    names, numbers = np.unique(corpus.sources, return_counts=True)
    return dict(zip(names.tolist(), numbers.tolist(), strict=True))
