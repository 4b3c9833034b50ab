"""The values of arguments that stand in several rooms."""

from typing import Literal, TypeAlias, get_args

__all__ = ["KERNELS", "METHODS", "PROMPT_ATTENTION", "QUANTIZE", "Kernels", "Quantize"]

Kernels: TypeAlias = Literal["auto", "plain", "fast"]
"""How the numbers are computed, see `PromptedT5`."""

Quantize: TypeAlias = Literal["int8", "int4"]
"""The bits of a quantised backbone's projections, see `backbones.load`."""

KERNELS: tuple[str, ...] = get_args(Kernels)
QUANTIZE: tuple[str, ...] = get_args(Quantize)

METHODS = ("generate", "beam", "rank")
"""How a task is answered, see `evaluate`."""

PROMPT_ATTENTION = ("full", "prompt", "causal")
"""What a prompt's positions may see, see `PromptedT5`."""
