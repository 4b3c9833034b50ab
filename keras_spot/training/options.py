"""The fields of `Run` as keyword arguments, and the names that one of them takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from keras_spot import tasks
from keras_spot.base.choices import Kernels, Quantize
from keras_spot.base.errors import unknown
from keras_spot.base.recipe import Recipe
from keras_spot.base.types import Backbone, PathLike, Tokenizer

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from keras_spot.base.devices import Devices
    from keras_spot.model.reparameterizations import Spec
    from keras_spot.prompts.initializers import PromptInit

__all__ = [
    "REPARAMETERIZATIONS",
    "BankOptions",
    "CommonOptions",
    "DevicesLike",
    "Reparameterized",
    "RunOptions",
    "Start",
    "TaskLike",
    "check_reparameterization",
    "shares_a_part",
]

TaskLike: TypeAlias = str | tasks.Task | tasks.Mixture
Start: TypeAlias = "PromptInit | None"
Reparameterized: TypeAlias = "Spec | None"
DevicesLike: TypeAlias = "str | Devices | tf.distribute.Strategy | keras.distribution.ModelParallel"


class CommonOptions(TypedDict, total=False):
    """The fields of `Run` that `train` and `train_bank` take alike, by keyword."""

    backbone: PathLike | Backbone
    tokenizer: PathLike | Tokenizer | None
    recipe: Recipe | None
    steps: int | None
    prompt_attention: str | None
    data_dir: PathLike | None
    split: str
    examples: int | None
    validation_split: str | None
    validation_limit: int | None
    method: str
    input_length: int | None
    devices: DevicesLike
    dtype: str | None
    quantize: Quantize | None
    kernels: Kernels
    remat: bool
    skip_nonfinite: int
    distillation_weight: float | None
    reparameterization: Reparameterized


class RunOptions(CommonOptions, total=False):
    """The fields of `Run` that `train` takes by keyword."""

    prompt_init: Start
    teacher: Start
    seed: int
    learning_rate: float | None


class BankOptions(CommonOptions, total=False):
    """The fields of `Run` that `train_bank` takes by keyword: one for all prompts, or K."""

    names: Sequence[str] | None
    prompt_init: Start | Sequence[Start]
    teacher: Start | Sequence[Start]
    seed: int | Sequence[int]
    learning_rate: float | Sequence[float] | None


REPARAMETERIZATIONS = ("residual", "low-rank", "vocabulary-mixture", "shared")
"""Names of what can be trained in a prompt's place; `keras_spot.reparameterizations` has them."""


def check_reparameterization(value: Any) -> None:
    """Raise InvalidArgument for the name of no reparameterization, without loading Keras."""
    if isinstance(value, str) and value not in REPARAMETERIZATIONS and "{" not in value:
        raise unknown("reparameterization", value, REPARAMETERIZATIONS)


def shares_a_part(value: Any) -> bool:
    """Whether prompts with a reparameterization, however it is given, have a part in common."""
    if isinstance(value, str):
        return value == "shared" or '"shared"' in value
    names = value if isinstance(value, Mapping) else [getattr(value, "name_in_records", None)]
    return "shared" in names
