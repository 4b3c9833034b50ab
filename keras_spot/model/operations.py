"""How many operations the matrix products of a traced JAX program take."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

__all__ = ["operations"]


def operations(jaxpr: Any, rounds: int = 1) -> int:
    """Return the floating-point operations of all matrix products in a program.

    They are counted before the compiler has dealt the program out to devices, so that nothing is
    lost in loops, of which compilers count one round.

    Args:
        jaxpr: a `jax.extend.core.Jaxpr`.
        rounds: of a `while` loop. Default 1.
    """
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            products = math.prod(equation.outvars[0].aval.shape)
            total += 2 * products * math.prod(shape[axis] for axis in contracted)
            continue
        inner = [operations(each, rounds) for each in _inner(params)]
        if name == "cond":
            total += max(inner)
        else:
            total += sum(inner) * {"while": rounds, "scan": params.get("length", 1)}.get(name, 1)
    return total


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    """Yield the programs within an equation."""
    for value in params.values():
        for one in value if isinstance(value, (list, tuple)) else [value]:
            closed = getattr(one, "jaxpr", one)
            if hasattr(closed, "eqns"):
                yield closed
