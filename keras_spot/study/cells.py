"""The cells of a study's grid: what is one run, and what must be finished before it."""

import dataclasses
from typing import Any

__all__ = ["KINDS", "LEARNED", "MIXED", "SHARED", "Cell"]

KINDS = ("tuning", "source", "scratch", "transfer")
LEARNED = "learned"
"""In a source's place: a mixture of all sources, whose weights are learned."""
SHARED = "shared"
"""In a source's place: the prompt that all sources share, learned from their own prompts."""
MIXED = (LEARNED, SHARED)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        kind: `"source"` trains a source prompt, `"transfer"` a target prompt from it, and
            `"scratch"` the same target prompt for the same steps from the recipe's initial one;
            `"tuning"` trains on a source with one of a method's learning rates.
        source: name of the source task, or one of `MIXED`; None from scratch.
        target: name of the target task; None for a source.
        examples: training examples of the target; None for all of its split.
        seed: of the initial prompt, of the order of the examples and, where they are few, of
            which ones.
        method: how it is trained, of a study that compares methods.
        rate: of `"tuning"` the learning rate; of others the chosen one, no part of the id.
    """

    kind: str
    source: str | None
    target: str | None
    examples: int | None
    seed: int
    method: str | None = None
    rate: float | None = None

    @property
    def task(self) -> str:
        """The task that is trained and scored."""
        name = self.source if self.kind in ("source", "tuning") else self.target
        assert name is not None
        return name

    @property
    def is_shared(self) -> bool:
        """Whether it trains the prompt that all sources share."""
        return self.kind == "source" and self.source == SHARED

    @property
    def id(self) -> str:
        """Name of the cell's files.

        >>> Cell("transfer", "mr", "glue/sst2", 16, 0).id
        'transfer--mr--glue.sst2--16--0'
        """
        size = "all" if self.examples is None else str(self.examples)
        rate = f"{self.rate:g}" if self.kind == "tuning" else None
        parts = (self.kind, self.source, self.target, size, str(self.seed), self.method, rate)
        return "--".join(part.replace("/", ".") for part in parts if part is not None)

    def columns(self) -> dict[str, Any]:
        """The cell as the first columns of its row."""
        columns = {"id": self.id, **dataclasses.asdict(self)}
        if self.method is None:
            del columns["method"], columns["rate"]
        return columns
