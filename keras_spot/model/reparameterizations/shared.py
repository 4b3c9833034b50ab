"""Prompts of several tasks that share a part."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_spot.base.errors import invalid
from keras_spot.base.types import Record, Tensor
from keras_spot.model.reparameterizations.base import Reparameterization, check_whole

__all__ = ["Shared", "SharedPart"]


class SharedPart(Reparameterization):
    """The prompt `[P, H]` that the prompts of a bank have in common."""

    name_in_records = "shared-part"

    def build(self, shape: Sequence[int]) -> None:
        self.prompt = self.add("shared", shape)
        self.built = True


@keras.saving.register_keras_serializable("keras_spot")
class Shared(Reparameterization):
    """Multitask prompt tuning (Wang et al. 2023, "MPT", arXiv 2303.02861, section 3.1).

    The prompt of task k is a prompt `P*` `[P, H]` that all K of a bank share, times a product of
    its own, element by element:

        fold_k = P* o (U_k V_k)

    with `U_k` `[P, r]` and `V_k` `[r, H]`; the paper has r = 1. All of it is trained; the gradient
    of `P*` is the sum of what each task gives it. `U_k V_k` starts at 1, so that `fold_k` is
    then `P*`, which starts at the first prompt's initial one.

    The source stage trains a bank on the source tasks, directly; its run's folder holds `P*` as its
    own prompt, beside the folders of the tasks. The target stage starts from that with new
    factors: one prompt, `prompt_init` the bank's folder, and again this class.

    Args:
        rank: r. Default 1.
        rate_multiplier: factor on the learning rate of `U` and `V`; `P*` has the rate itself.
            Default 4/3, of the paper's 0.4 and 0.3.
        seed: of the rows of `V` beyond the first. Default 0.

    Raises:
        InvalidArgument: a number that breaks its rule, or of a bank trained initial prompts that
            are not one and the same.
    """

    name_in_records = "shared"
    common: SharedPart

    def __init__(
        self, rank: int = 1, rate_multiplier: float = 4 / 3, seed: int = 0, **kwargs: object
    ) -> None:
        super().__init__(rate_multiplier, seed, **kwargs)
        check_whole("rank", rank)
        self.rank = rank
        self.is_first = True

    def for_prompts(self, count: int) -> list[Reparameterization]:
        members = [self.copied(f"shared_{number}") for number in range(count)]
        common = SharedPart(name="common")
        for number, member in enumerate(members):
            member.common, member.is_first = common, number == 0
        return list(members)

    def build(self, shape: Sequence[int]) -> None:
        length, width = shape
        if self.is_first:
            self.common.build(shape)
        self.left = self.add("left", (length, self.rank), 1.0)
        self.right = self.add("right", (self.rank, width), 1.0)
        self.built = True

    def start(self, values: np.ndarray, trained: bool = False, by: int = 0) -> None:
        if self.is_first:
            self.common.prompt.assign(values)
        elif trained and not np.array_equal(values, ops.convert_to_numpy(self.common.prompt)):
            rule = "must be one trained prompt for all prompts that share a part"
            raise invalid("prompt_init", rule, "another one than the first prompt's")
        left = np.zeros(tuple(self.left.shape), "float32")
        right = np.random.default_rng(self.seed + by).normal(size=tuple(self.right.shape))
        left[:, 0], right[0] = 1.0, 1.0
        self.left.assign(left)
        self.right.assign(right.astype("float32"))

    def take(self, shared: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
        """Go on from the parts of an adapter of PEFT, see `initializers.multitask`.

        Args:
            shared: `[P, H]`; of a bank the first prompt's counts.
            left: `[P, r]`.
            right: `[r, H]`.

        Raises:
            InvalidArgument: another rank.
        """
        if left.shape != tuple(self.left.shape):
            raise invalid("rank", f"must be the adapter's {left.shape[1]}", f"rank={self.rank}")
        if self.is_first:
            self.common.prompt.assign(shared)
        self.left.assign(left)
        self.right.assign(right)

    def fold(self) -> Tensor:
        factor = ops.matmul(self.left.value, self.right.value)
        return self.common.prompt.value * factor

    def multipliers(self) -> list[tuple[keras.Variable, float]]:
        own = [(self.left, self.rate_multiplier), (self.right, self.rate_multiplier)]
        return [*own, (self.common.prompt, 1.0)] if self.is_first else own

    def get_config(self) -> Record:
        return {**super().get_config(), "rank": self.rank}
