"""Types that many signatures share.

Arguments are described by what is used of them, so that a type checker also sees a mistake where a
library says nothing of its own types.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np

__all__ = [
    "Array",
    "Backbone",
    "Initializer",
    "PathLike",
    "Progress",
    "Record",
    "Sliceable",
    "Table",
    "Tensor",
    "Tokenizer",
]

PathLike: TypeAlias = str | os.PathLike[str]
"""A local path, or where a docstring says so an address."""

Record: TypeAlias = dict[str, Any]
"""What a JSON file holds."""

Tensor: TypeAlias = Any
"""A tensor of Keras' backend: TensorFlow's, JAX's and PyTorch's have no type in common."""

Progress: TypeAlias = Callable[[int, int, Mapping[str, float]], None]
"""Called with the step, the number of steps and the logs after every step."""


class Array(Protocol):
    """Numbers of any library: a NumPy array, a backend's tensor or a Keras variable."""

    def __array__(self) -> np.ndarray: ...


class Table(Protocol):
    """Numbers `[V, H]` of which rows can be read: an array, a variable, a mapped file."""

    @property
    def shape(self) -> Any: ...

    def __getitem__(self, rows: slice, /) -> Any: ...


class Sliceable(Protocol):
    """Numbers of which parts can be read: an array, or a tensor that still lies in its file."""

    @property
    def shape(self) -> Any: ...

    def __getitem__(self, part: Any, /) -> np.ndarray: ...


class Initializer(Protocol):
    """A Keras initialiser, of this package or not."""

    def __call__(self, shape: tuple[int, ...], dtype: str | None = None) -> Tensor: ...


class Tokenizer(Protocol):
    """What is used of KerasHub's `T5Tokenizer`."""

    def __call__(self, inputs: Any) -> Any: ...

    def tokenize(self, inputs: Any) -> Any: ...

    def detokenize(self, inputs: Any) -> Any: ...

    def vocabulary_size(self) -> int: ...


class Backbone(Protocol):
    """What is used of KerasHub's `T5Backbone`."""

    @property
    def hidden_dim(self) -> int: ...

    @property
    def vocabulary_size(self) -> int: ...

    @property
    def weights(self) -> Any: ...

    @property
    def input(self) -> Any: ...

    @property
    def token_embedding(self) -> Any: ...

    def count_params(self) -> int: ...

    def get_config(self) -> Any: ...
