"""The fields of `Run` as keyword arguments, for type checkers and editors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

from keras_spot import tasks
from keras_spot.base.recipe import Recipe
from keras_spot.base.types import Backbone, PathLike, Tokenizer

if TYPE_CHECKING:
    import tensorflow as tf

    from keras_spot.model.reparameterizations import Spec
    from keras_spot.prompts.initializers import PromptInit

TaskLike: TypeAlias = str | tasks.Task | tasks.Mixture
Start: TypeAlias = "PromptInit | None"
Reparameterized: TypeAlias = "Spec | None"


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
    strategy: str | tf.distribute.Strategy
    dtype: str | None
    quantize: Literal["int8", "int4"] | None
    kernels: Literal["auto", "plain", "fast"]
    skip_nonfinite: int
    reparameterization: Reparameterized


class RunOptions(CommonOptions, total=False):
    """The fields of `Run` that `train` takes by keyword."""

    prompt_init: Start
    seed: int
    learning_rate: float | None


class BankOptions(CommonOptions, total=False):
    """The fields of `Run` that `train_bank` takes by keyword: one for all prompts, or K."""

    names: Sequence[str] | None
    prompt_init: Start | Sequence[Start]
    seed: int | Sequence[int]
    learning_rate: float | Sequence[float] | None
