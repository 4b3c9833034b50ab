"""Names of the backbones that prompt tuning is done with, and of those it is not."""

import re

__all__ = ["SHORTCUTS", "T5_VOCABULARY", "span_corruption_only"]

# The LM-adapted sizes of Lester et al. 2021 (arXiv 2104.08691, section 3.2) in both homes: T5X
# checkpoints under the reference's own names, safetensors under those of the Hugging Face hub.
_T5X = "gs://t5-data/pretrained_models/t5x"
SHORTCUTS = {
    "t5_1_1_lm100k_small": f"{_T5X}/t5_1_1_lm100k_small/checkpoint_1100000",
    "t5_1_1_lm100k_base": f"{_T5X}/t5_1_1_lm100k_base/checkpoint_1100000",
    "t5_1_1_lm100k_large": f"{_T5X}/t5_1_1_lm100k_large/checkpoint_1100000",
    "t5_1_1_lm100k_xl": f"{_T5X}/t5_1_1_lm100k_xl/checkpoint_1100000",
    "t5_1_1_lm100k_xxl": f"{_T5X}/t5_1_1_lm100k_xxl/checkpoint_1100000",
    "t5-small-lm-adapt": "hf://google/t5-small-lm-adapt",
    "t5-base-lm-adapt": "hf://google/t5-base-lm-adapt",
    "t5-large-lm-adapt": "hf://google/t5-large-lm-adapt",
    "t5-xl-lm-adapt": "hf://google/t5-xl-lm-adapt",
    "t5-xxl-lm-adapt": "hf://google/t5-xxl-lm-adapt",
}

# The vocabulary of every English T5; T5X checkpoints come without one.
T5_VOCABULARY = "gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model"

# T5 1.1 and mT5 as they came from pretraining, by the last name of a path, preset or repository.
_SPAN_CORRUPTION = re.compile(r"(t5[._-]v?1[._]1|mt5)[._-](small|base|large|xl|xxl)")


def span_corruption_only(name: str) -> bool:
    """Return whether a backbone's name says that it has learned nothing but filling in spans.

    >>> span_corruption_only("t5_1.1_base"), span_corruption_only("hf://google/t5-v1_1-xl")
    (True, True)
    >>> span_corruption_only("t5_1_1_lm100k_base"), span_corruption_only("flan_base_multi")
    (False, False)
    """
    last = str(name).rstrip("/").rsplit("/", 1)[-1].split("@")[0]
    return _SPAN_CORRUPTION.fullmatch(last) is not None
