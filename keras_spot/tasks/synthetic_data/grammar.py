"""Seeded sentences of the synthetic tasks, in plain Python.

Every label holds by construction. In a contrast ("although A, B", "A, but B") the main or
last clause decides, and a negated word counts for its opposite.
"""

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from keras_spot.base.errors import unknown
from keras_spot.tasks.synthetic_data import lexicon

__all__ = ["CONFIGS", "SIZES", "UNLABELLED", "Row", "expand", "rows"]

SIZES = {"train": 2000, "validation": 500, "test": 200}
UNLABELLED = ("test",)

_SLOT = re.compile(r"\{(-?)(\w+)\}")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeio]|un)")

Row = dict[str, Any]


def rows(config: str, split: str) -> Iterator[Row]:
    """Return the rows of one split: the text features, `label` (-1 in test) and `idx`.

    The same sequence on every call and machine; no first text occurs twice in a config, in
    one split or in two, and every label is equally frequent.

    Args:
        config: one of `CONFIGS`.
        split: "train", "validation" or "test".

    Raises:
        InvalidArgument: an unknown config or split.

    >>> next(rows("movies", "train"))["idx"]
    0
    """
    if config not in CONFIGS:
        raise unknown("config", config, CONFIGS)
    if split not in SIZES:
        raise unknown("split", split, SIZES)
    return _draw(config, split)


def _draw(config: str, split: str) -> Iterator[Row]:
    rng = random.Random(f"keras_spot synthetic {config}")
    names, features, make = CONFIGS[config]
    seen: set[str] = set()
    for name, size in SIZES.items():  # earlier splits are drawn too, so that none repeats another
        labels = [i % len(names) for i in range(size)]
        rng.shuffle(labels)
        for idx, label in enumerate(labels):
            texts = make(rng, label)
            while texts[0] in seen:
                texts = make(rng, label)
            seen.add(texts[0])
            if name == split:
                shown = -1 if name in UNLABELLED else label
                yield {**dict(zip(features, texts, strict=True)), "label": shown, "idx": idx}
        if name == split:
            return


def expand(rng: random.Random, rules: lexicon.Rules, text: str, label: int = 1) -> str:
    """Replace every `{symbol}` of `text` by an expansion of the symbol, none used twice.

    Args:
        rng: the source of all choices.
        rules: symbol to alternatives, or to a (negative, positive) pair of them.
        text: a text with slots; `{-symbol}` turns the polarity round for its expansion.
        label: 0 for negative, 1 for positive polarity.
    """
    used: set[str] = set()

    def fill(text: str, label: int) -> str:
        def replace(slot: re.Match[str]) -> str:
            side = 1 - label if slot[1] else label
            choices: Any = rules[slot[2]]
            if isinstance(choices[0], tuple):
                choices = choices[side]
            choice = rng.choice([c for c in choices if c not in used] or choices)
            used.add(choice)
            return fill(choice, side)

        return _SLOT.sub(replace, text)

    return _sentence(fill(text, label))


def _sentence(text: str) -> str:
    return _ARTICLE.sub(r"\1n ", text[0].upper() + text[1:])


def _sentiment(domain: lexicon.Rules) -> Callable[[random.Random, int], tuple[str]]:
    def make(rng: random.Random, label: int) -> tuple[str]:
        items: Any = domain["item"]
        one = (rng.choice(items),)  # a review is about one thing throughout
        rules: lexicon.Rules = {**lexicon.SENTIMENT, **domain, "item": one}
        return (expand(rng, rules, "{sentence}", label),)

    return make


def _topic(rng: random.Random, label: int) -> tuple[str]:
    topic = list(lexicon.TOPICS.values())[label]
    return (expand(rng, {**lexicon.NEWS, **topic}, "{sentence}"),)


def _paraphrase(rng: random.Random, label: int) -> tuple[str, str]:
    facts = {name: rng.choice(values) for name, values in lexicon.FACTS.items()}
    others = dict(facts)
    if label == 0:
        changed = rng.choice(list(facts))
        others[changed] = rng.choice([v for v in lexicon.FACTS[changed] if v != facts[changed]])
    forms = ["{first}", "{second}"]
    rng.shuffle(forms)
    first, second = (
        expand(rng, {**lexicon.REPORTS, **{k: (v,) for k, v in told.items()}}, form)
        for told, form in zip((facts, others), forms, strict=True)
    )
    return first, second


def _entailment(rng: random.Random, label: int) -> tuple[str, str]:
    who = rng.choice(list(lexicon.PEOPLE))
    noun = lexicon.PEOPLE[who]
    action = rng.choice(list(lexicon.ACTIONS))
    implied, places = lexicon.ACTIONS[action]
    place, time = rng.choice(places), rng.choice(lexicon.TIMES)
    seen, claimed = action, rng.choice((action, *implied))
    if label == 1 and rng.random() < 0.5:  # neutral: the premise is the wider statement
        seen, claimed = rng.choice(implied), action
        if seen in action:
            seen = implied[-1]
        hypothesis = f"the {noun} is {claimed}"
    elif label == 1:
        hypothesis = f"the {noun} {rng.choice(lexicon.UNSAID)}"
    elif label == 2:
        others = [a for a, (wider, _) in lexicon.ACTIONS.items() if not set(wider) & set(implied)]
        other = rng.choice(others)
        hypothesis = f"the {noun} is {rng.choice((other, *lexicon.ACTIONS[other][0]))}"
    else:
        hypothesis = f"the {noun} is {claimed}"
        if rng.random() < 0.25:
            hypothesis = f"the {noun} is {place}" if place.startswith("in ") else hypothesis
    return _sentence(f"{who} is {seen} {place}{time}."), _sentence(f"{hypothesis}.")


# config: (label names, text features, maker of one row's texts from a label)
CONFIGS: dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[..., tuple[str, ...]]]] = {
    "movies": (("negative", "positive"), ("sentence",), _sentiment(lexicon.MOVIES)),
    "products": (("negative", "positive"), ("sentence",), _sentiment(lexicon.PRODUCTS)),
    "entailment": (
        ("entailment", "neutral", "contradiction"),
        ("premise", "hypothesis"),
        _entailment,
    ),
    "paraphrase": (("not_equivalent", "equivalent"), ("sentence1", "sentence2"), _paraphrase),
    "topic": (tuple(lexicon.TOPICS), ("sentence",), _topic),
}
