"""The grammar's promises (labels, balance, no repeats, determinism) and the TFDS builder."""

import collections
import hashlib
import json
import random
import re
import subprocess
import sys

import pytest

from keras_spot.tasks.synthetic_data import CONFIGS, SIZES, grammar, lexicon, rows

# If these change, people's prepared copies are stale: raise `builder.Synthetic.VERSION` as well.
DIGESTS = {
    "movies": "d1f7890bd0f0f111",
    "products": "a583e4ca82b3a90b",
    "entailment": "7557563514991817",
    "paraphrase": "94dc635f6c99c690",
    "topic": "8099a32b115619ae",
}


def texts(config, row):
    return tuple(row[feature] for feature in CONFIGS[config][1])


@pytest.mark.parametrize("config", CONFIGS)
def test_sizes_and_labels(config):
    names = CONFIGS[config][0]
    for split, size in SIZES.items():
        results = list(rows(config, split))
        assert [row["idx"] for row in results] == list(range(size))
        counts = collections.Counter(row["label"] for row in results)
        if split == "test":
            assert counts == {-1: size}
        else:
            assert set(counts) == set(range(len(names)))
            assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("config", CONFIGS)
def test_no_text_twice_within_or_between_splits(config):
    firsts = [texts(config, row)[0] for split in SIZES for row in rows(config, split)]
    assert len(set(firsts)) == len(firsts) == sum(SIZES.values())


@pytest.mark.parametrize("config", CONFIGS)
def test_texts_are_sentences(config):
    for row in rows(config, "train"):
        for text in texts(config, row):
            assert re.fullmatch(r"[A-Z][^{}]*[.!]", text), text
            assert "  " not in text, text
            assert not grammar._ARTICLE.search(text), text


@pytest.mark.parametrize("config", CONFIGS)
def test_same_rows_in_another_process(config):
    script = (
        "import hashlib, json; from keras_spot.tasks.synthetic_data import SIZES, rows;"
        f"all = [r for s in SIZES for r in rows({config!r}, s)];"
        "print(hashlib.sha256(json.dumps(all).encode()).hexdigest()[:16])"
    )
    digest = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert digest == DIGESTS[config]
    here = [row for split in SIZES for row in rows(config, split)]
    assert hashlib.sha256(json.dumps(here).encode()).hexdigest()[:16] == digest


def test_polarity_flips_and_flips_back():
    rules = {
        "word": (("bad",), ("good",)),
        "negated": ("not {-word}",),
        "contrast": ("{-negated}, but {negated}",),
    }
    assert grammar.expand(random.Random(0), rules, "{word}", 1) == "Good"
    assert grammar.expand(random.Random(0), rules, "{negated}", 1) == "Not bad"
    assert grammar.expand(random.Random(0), rules, "{contrast}", 1) == "Not good, but not bad"
    assert grammar.expand(random.Random(0), rules, "{contrast}", 0) == "Not bad, but not good"


@pytest.mark.parametrize("config", ["movies", "products"])
def test_sentiment_labels_by_an_independent_reading(config):
    """Count opinion words in the deciding clause, a negated one for its opposite."""
    domain = {"movies": lexicon.MOVIES, "products": lexicon.PRODUCTS}[config]
    tables = [
        domain["adjective"],
        domain["event"],
        lexicon.SENTIMENT["close"],
        lexicon.SENTIMENT["verdict"],
    ]
    yet = r", but |; still, |; even so, |; all the same, |; in the end, "
    turns = rf"^(?:although|even though)[^,]*, |.*(?:{yet})"
    for row in rows(config, "train"):
        decides = re.sub(turns, "", row["sentence"].lower())
        votes = set()
        for table in tables:
            for side, phrases in enumerate(table):
                for phrase in phrases:
                    actual = re.search(
                        rf"(not at all |anything but |far from |by no means )?"
                        rf"\b{phrase.lower()}\b",
                        decides,
                    )
                    if actual:
                        votes.add(1 - side if actual[1] else side)
        assert votes == {row["label"]}, row


def test_paraphrases_share_every_fact_or_differ_in_one():
    for row in rows("paraphrase", "train"):
        told = [
            {
                name: next(v for v in values if v.lower() in text.lower())
                for name, values in lexicon.FACTS.items()
            }
            for text in (row["sentence1"], row["sentence2"])
        ]
        changed = sum(told[0][name] != told[1][name] for name in lexicon.FACTS)
        assert changed == 1 - row["label"], row


def test_contradictions_are_of_actions_that_exclude_each_other():
    for row in rows("entailment", "train"):
        claimed = row["hypothesis"].split(" is ")[-1].rstrip(".")
        owners = {
            action
            for action, (implied, _) in lexicon.ACTIONS.items()
            if claimed == action or claimed in implied
        }
        shown = {
            action
            for action, (implied, _) in lexicon.ACTIONS.items()
            if any(f" is {form} " in row["premise"] for form in (action, *implied))
        }
        if row["label"] == 2:
            assert owners, row
            assert not owners & shown, row
        elif row["label"] == 0 and owners:
            assert owners & shown, row


@pytest.mark.parametrize(
    ("config", "split", "message"),
    [
        (
            "movie",
            "train",
            "`config` must be a known name. Received: config='movie' (did you mean 'movies'?)",
        ),
        (
            "movies",
            "tests",
            "`split` must be a known name. Received: split='tests' (did you mean 'test'?)",
        ),
    ],
)
def test_unknown_names(config, split, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        rows(config, split)


@pytest.mark.parametrize("config", CONFIGS)
def test_builder_serves_the_grammar_through_tfds(config, data_dir):
    import tensorflow_datasets as tfds

    from keras_spot.tasks.synthetic_data import builder

    prepared = builder.Synthetic(config=config, data_dir=data_dir)
    prepared.download_and_prepare()
    assert tfds.builder(f"synthetic/{config}", data_dir=data_dir).data_path == prepared.data_path
    assert list(prepared.info.features["label"].names) == list(CONFIGS[config][0])
    for split in SIZES:
        served = tfds.as_numpy(prepared.as_dataset(split=split))
        served = sorted(
            (
                {k: v.decode() if isinstance(v, bytes) else int(v) for k, v in row.items()}
                for row in served
            ),
            key=lambda row: row["idx"],
        )
        assert served == list(rows(config, split))
