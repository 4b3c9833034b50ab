"""Kernels as whole numbers of 8 or 4 bits with scales, as Keras' `Dense` computes with them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

__all__ = ["rounded"]

_EPSILON = 1e-7
_COLUMNS = 1 << 18  # numbers that are rounded at once


def rounded(kernel: np.ndarray, mode: str, block: int) -> dict[str, np.ndarray]:
    """Return what a quantised projection keeps of a kernel; little is held beside it meanwhile.

    The numbers are those that Keras' own quantisation gives, bit by bit.

    Args:
        kernel: `[in, out]`, float32 or bfloat16.
        mode: `"int8"`: for each column one scale, by which its numbers were multiplied; `"int4"`:
            for each `block` rows of a column one, by which they were divided, and a zero, two
            numbers in a byte.
        block: rows that share a scale in int4.

    Returns:
        The variable's name -> its numbers: `_kernel` and `kernel_scale`, in int4 `kernel_zero`.
    """
    rows, columns = kernel.shape
    if mode == "int8":
        parts = {
            "_kernel": np.empty((rows, columns), "int8"),
            "kernel_scale": np.empty(columns, kernel.dtype),
        }
    else:
        groups = -(-rows // block)
        parts = {
            "_kernel": np.empty((rows, -(-columns // 2)), "int8"),
            "kernel_scale": np.empty((groups, columns), kernel.dtype),
            "kernel_zero": np.empty((groups, columns), "int8"),
        }
    for some in _some_columns(rows, columns):
        if mode == "int8":
            numbers, parts["kernel_scale"][some] = _of_columns(kernel[:, some])
            parts["_kernel"][:, some] = numbers
        else:
            numbers, scale, zero = _of_blocks(kernel[:, some], block)
            parts["kernel_scale"][:, some], parts["kernel_zero"][:, some] = scale, zero
            parts["_kernel"][:, some.start // 2 : -(-some.stop // 2)] = _packed(numbers)
    return parts


def _some_columns(rows: int, columns: int) -> Iterator[slice]:
    step = max(2, _COLUMNS // max(1, rows) // 2 * 2)  # two columns share a byte
    for begin in range(0, columns, step):
        yield slice(begin, min(begin + step, columns))


def _of_columns(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scale = np.divide(127, np.max(np.abs(kernel), axis=0) + _EPSILON)
    numbers = np.clip(np.round(kernel * scale), -127, 127)
    return numbers.astype("int8"), scale


def _of_blocks(kernel: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows, columns = kernel.shape
    groups = -(-rows // block)
    padding = np.zeros((groups * block - rows, columns), kernel.dtype)
    blocks = np.concatenate([kernel, padding]).reshape(groups, block, columns)
    least, most = blocks.min(axis=1, keepdims=True), blocks.max(axis=1, keepdims=True)
    scale = np.divide(most - least + _EPSILON, 15)
    zero = np.clip(np.round(np.divide(-least, scale)) - 8, -8, 7)
    numbers = np.clip(np.round(np.divide(blocks, scale)) + zero, -8, 7).astype("int8")
    numbers = numbers.reshape(groups * block, columns)[:rows]
    return numbers, scale[:, 0], zero[:, 0].astype("int8")


def _packed(numbers: np.ndarray) -> np.ndarray:
    """Return numbers of 4 bits two in a byte, the left one in its lower half."""
    if numbers.shape[1] % 2:
        numbers = np.pad(numbers, ((0, 0), (0, 1)))
    low, high = numbers[:, ::2].view("uint8") & 15, numbers[:, 1::2].view("uint8") << 4
    return (low | high).view("int8")
