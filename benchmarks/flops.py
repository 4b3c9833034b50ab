"""How many floating-point operations the mathematics of training and of generation has.

One count for both sides, whatever they compute in fact. A product of `[m, k]` and `[k, n]` has
2mnk; its gradient by the input has as many again. Frozen weights need no gradient, but both
operands of attention's own products (queries with keys, weights with values) do.
"""

from benchmarks.workload import Shape


def training_step(
    shape: Shape, prompt: int, rows: int, tokens: int, targets: int, shared: bool = False
) -> int:
    """Return the operations of one step.

    Args:
        shape: of the model.
        prompt: P.
        rows: B.
        tokens: T.
        targets: D.
        shared: whether the prompt sees itself alone, so that its states are computed once.

    >>> tiny = Shape(layers=1, width=1, inner=1, heads=1, head_width=1, vocabulary=1)
    >>> training_step(tiny, prompt=0, rows=1, tokens=1, targets=0)
    48
    """
    inner = shape.heads * shape.head_width
    projections = 4 * shape.width * inner  # of queries, keys, values and outputs
    feed_forward = 3 * shape.width * shape.inner
    length = prompt + tokens
    positions = prompt + rows * tokens if shared else rows * length
    pairs = prompt**2 + rows * tokens * length if shared else rows * length**2

    linear = positions * (projections + feed_forward)
    attention = 2 * pairs * inner
    # The decoder: own attention, queries and outputs across, keys and values across.
    linear += rows * targets * (projections + projections // 2 + feed_forward)
    linear += positions * projections // 2
    attention += 2 * rows * targets * (targets + length) * inner
    head = rows * targets * shape.width * shape.vocabulary
    return shape.layers * (4 * linear + 6 * attention) + 4 * head


def generation(shape: Shape, prompt: int, rows: int, tokens: int, length: int) -> int:
    """Return the operations of generating tokens, what came before kept and never done again.

    Args:
        shape: of the model.
        prompt: P.
        rows: B.
        tokens: T.
        length: tokens to generate.

    >>> tiny = Shape(layers=1, width=1, inner=1, heads=1, head_width=1, vocabulary=1)
    >>> generation(tiny, prompt=0, rows=1, tokens=1, length=1)
    50
    """
    inner = shape.heads * shape.head_width
    projections = 4 * shape.width * inner
    feed_forward = 3 * shape.width * shape.inner
    keys = prompt + tokens
    linear = keys * (projections + feed_forward + projections // 2)
    linear += length * (projections + projections // 2 + feed_forward)
    own = length * (length + 1) // 2
    attention = 2 * inner * (keys**2 + own + length * keys)
    head = length * shape.width * shape.vocabulary
    return 2 * rows * (shape.layers * (linear + attention) + head)
