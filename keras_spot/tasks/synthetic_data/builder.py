"""The synthetic tasks as a TFDS data set: one config per task, prepared offline in seconds."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from keras_spot.tasks.synthetic_data import grammar

__all__ = ["Synthetic"]


class Synthetic(tfds.core.GeneratorBasedBuilder):
    """TFDS builder `synthetic/<config>` over `grammar.rows`.

    Features: the config's text features (`sentence`, `premise` and `hypothesis`, or
    `sentence1` and `sentence2`), `label` (class label, -1 in test) and `idx` (int32).
    Splits: train 2,000, validation 500, test 200 rows.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First grammar."}
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=name, description=f"Synthetic {name} task.")
        for name in grammar.CONFIGS
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        labels, texts, _ = grammar.CONFIGS[self.builder_config.name]
        return self.dataset_info_from_configs(
            description="Sentences of keras_spot's own grammar, labelled by construction.",
            features=tfds.features.FeaturesDict(
                {
                    **{text: tfds.features.Text() for text in texts},
                    "label": tfds.features.ClassLabel(names=list(labels)),
                    "idx": tfds.features.Scalar(np.int32),
                }
            ),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, grammar.Row]]]:
        del dl_manager  # nothing is downloaded
        return {split: self._generate_examples(split) for split in grammar.SIZES}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, grammar.Row]]:
        for row in grammar.rows(self.builder_config.name, split):
            yield row["idx"], row
