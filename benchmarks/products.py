"""The matrix products of a generation, and how long TensorFlow takes for each of them alone."""

import dataclasses
import statistics
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import process
from benchmarks.workload import Shape

COLD = 64 * 2**20  # bytes of products that take turns, so that no cache holds the next kernel
PIECES = (128, 256)  # columns of a kernel at a time


@dataclasses.dataclass(frozen=True)
class Product:
    """`[batch, m, k]` times `[batch, k, n]`, so many times; a kernel's batch is 1."""

    part: str
    count: int
    batch: int
    m: int
    k: int
    n: int

    @property
    def operations(self) -> int:
        """Floating-point operations, all times together."""
        return 2 * self.count * self.batch * self.m * self.k * self.n


def generation(
    shape: Shape, prompt: int, rows: int, tokens: int, length: int, absorbed: bool
) -> Iterator[Product]:
    """Yield the products of generating tokens, what came before kept and never done again.

    Args:
        shape: of the model.
        prompt: P.
        rows: B.
        tokens: T.
        length: tokens to generate. Looking up own positions counts by the mean of them.
        absorbed: whether cross-attention works on the encoder's states themselves.
    """
    layers, width, heads, each = shape.layers, shape.width, shape.heads, shape.head_width
    inner, keys, steps = heads * each, prompt + tokens, length * layers

    # Before the first layer the prompt is the same for all rows.
    yield Product("encoding", 3, 1, prompt + rows * tokens, width, inner)
    known = 3 * (layers - 1) + (0 if absorbed else 2 * layers)
    yield Product("encoding", known, 1, rows * keys, width, inner)
    yield Product("encoding", layers, 1, rows * keys, inner, width)
    yield Product("encoding", 2 * layers, 1, rows * keys, width, shape.inner)
    yield Product("encoding", layers, 1, rows * keys, shape.inner, width)
    yield Product("encoding", layers, rows * heads, keys, each, keys)
    yield Product("encoding", layers, rows * heads, keys, keys, each)

    yield Product("decoder's kernels", 4 * steps, 1, rows, width, inner)
    yield Product("decoder's kernels", 2 * steps, 1, rows, inner, width)
    yield Product("decoder's kernels", 2 * steps, 1, rows, width, shape.inner)
    yield Product("decoder's kernels", steps, 1, rows, shape.inner, width)
    yield Product("logits", length, 1, rows, width, shape.vocabulary)

    own = (length + 1) // 2
    lookups = [(rows * heads, 1, each, own), (rows * heads, 1, own, each)]
    if absorbed:
        lookups += [(heads, rows, each, width), (rows, heads, width, keys)]
        lookups += [(rows, heads, keys, width), (heads, rows, width, each)]
    else:
        lookups += [(rows * heads, 1, each, keys), (rows * heads, 1, keys, each)]
    for size in lookups:
        yield Product("attention", steps, *size)


def alone(product: Product, dtype: str) -> float:
    """Return the seconds of one product in the fastest of its forms: medians of 9 laps.

    As it is, both sides turned, the right one kept turned, and of a kernel some columns at a time.
    Products do not wait for one another, as those of a decoder must.
    """
    import tensorflow as tf

    def normal(*size: int) -> Any:
        return tf.cast(tf.random.normal(size), dtype)

    lead = [] if product.batch == 1 else [product.batch]
    m, k, n = product.m, product.k, product.n
    size = product.batch * (m * k + k * n + m * n) * tf.as_dtype(dtype).size
    copies = min(-(-COLD // size), product.count)

    def kernel() -> Any:
        return normal(*lead, k, n)

    forms: list[tuple[Callable[..., Any], Callable[[], Any]]] = [
        (tf.matmul, kernel),
        (lambda x, y: tf.matmul(y, x, transpose_a=True, transpose_b=True), kernel),
        (lambda x, y: tf.matmul(x, y, transpose_b=True), lambda: normal(*lead, n, k)),
    ]
    if not lead:
        forms += [
            (
                lambda x, y: tf.concat([tf.matmul(x, piece) for piece in y], 1),
                lambda width=width: tuple(normal(k, width) for _ in range(n // width)),
            )
            for width in PIECES
            if n > width and n % width == 0 and k * n <= 2**22
        ]
    left = normal(*lead, m, k)
    return min(_median(multiply, left, [make() for _ in range(copies)]) for multiply, make in forms)


def _median(multiply: Callable[..., Any], left: Any, rights: list[Any]) -> float:
    import tensorflow as tf

    @tf.function
    def all_of_them(left: Any, rights: list[Any]) -> Any:
        # A number of each is used, or else TensorFlow would leave the product out.
        numbers = [tf.reshape(multiply(left, right), [-1])[0] for right in rights]
        return tf.add_n(numbers)

    all_of_them(left, rights)
    laps = process.repeated(lambda: all_of_them(left, rights).numpy(), 9)
    return statistics.median(laps["wall"]) / len(rights)
