"""Types that many signatures share."""

import os
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

PathLike: TypeAlias = str | os.PathLike[str]
"""A local path, or where it says so an address."""


@runtime_checkable
class Array(Protocol):
    """Numbers of any library: a NumPy array, a backend's tensor or a Keras variable."""

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray: ...


class Tokenizer(Protocol):
    """What is used of KerasHub's `T5Tokenizer`."""

    end_token_id: int
    pad_token_id: int

    def __call__(self, inputs: Any, /) -> Any: ...

    def detokenize(self, inputs: Any, /) -> Any: ...

    def vocabulary_size(self) -> int: ...
