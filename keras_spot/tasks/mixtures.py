"""Mixtures of tasks: who is in them and how often each is drawn. The drawing is the pipeline's."""

import dataclasses
import math
from collections.abc import Mapping

from keras_spot.base.errors import invalid, unknown
from keras_spot.tasks.benchmarks import BENCHMARKS

__all__ = ["MIXTURES", "K", "Mixture", "mixture"]

K = 2**19
"""The SPoT paper's artificial limit on the size of a data set (Vu et al. 2022, section 2.2.2)."""


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Tasks drawn from at fixed rates.

    Attributes:
        name: the mixture's name.
        tasks: the names of its tasks.
        limit: a data set counts as no larger than this, None for no limit.
        temperature: 1 draws in proportion to size; the larger, the more evenly.
        weights: task to weight instead of the sizes; the other two do not apply then.

    Raises:
        InvalidArgument: no task, a task twice, a limit or temperature that is not positive, or
            weights that are not one positive number for each task.
    """

    name: str
    tasks: tuple[str, ...]
    limit: int | None = K
    temperature: float = 1.0
    weights: Mapping[str, float] | None = dataclasses.field(default=None, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(self.tasks))
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise invalid("tasks", "must be different names, at least one", f"tasks={self.tasks!r}")
        if self.limit is not None and self.limit < 1:
            raise invalid("limit", "must be at least 1 or None", f"limit={self.limit!r}")
        if not 0 < self.temperature < math.inf:
            rule = "must be a positive number"
            raise invalid("temperature", rule, f"temperature={self.temperature!r}")
        if self.weights is not None:
            _check("weights", self.weights, self.tasks)

    def rates(self, sizes: Mapping[str, int] | None = None) -> dict[str, float]:
        """Return each task's share of the examples drawn; the shares sum to 1.

        Without weights the share is in proportion to min(size, limit)^(1/temperature): the
        examples-proportional and temperature-scaled mixing of Raffel et al. 2020, section 3.5.2.

        Args:
            sizes: task to its number of training examples; not needed where there are weights.

        Raises:
            InvalidArgument: sizes that are not one positive number for each task.

        >>> Mixture("both", ("a", "b"), limit=300).rates({"a": 100, "b": 5000})
        {'a': 0.25, 'b': 0.75}
        """
        if self.weights is not None:
            shares = {task: float(self.weights[task]) for task in self.tasks}
        else:
            _check("sizes", sizes or {}, self.tasks)
            limit = math.inf if self.limit is None else self.limit
            counts = {task: min((sizes or {})[task], limit) for task in self.tasks}
            shares = {task: count ** (1 / self.temperature) for task, count in counts.items()}
        total = math.fsum(shares.values())
        return {task: share / total for task, share in shares.items()}


# The SPoT paper's mixtures as far as there are tasks of their members here: CxC (paraphrase), CR
# (sentiment), XSum and WikiLingua (summarisation) are missing. ANLI's three rounds are one of the
# seven data sets of NLI. WNLI is in no mixture, as in T5.
MIXTURES = (
    *(Mixture(name, members) for name, members in BENCHMARKS.items()),
    Mixture(
        "nli",
        (
            "anli/r1",
            "anli/r2",
            "anli/r3",
            "super_glue/cb",
            "doc_nli",
            "glue/mnli",
            "glue/qnli",
            "glue/rte",
            "snli",
        ),
    ),
    Mixture("paraphrase", ("glue/mrpc", "glue/qqp", "glue/stsb")),
    Mixture("sentiment", ("goemotions", "sentiment140", "glue/sst2", "yelp_polarity_reviews")),
    Mixture(
        "mrqa",
        (
            "mrqa/squad",
            "mrqa/news_qa",
            "mrqa/trivia_qa",
            "mrqa/search_qa",
            "mrqa/hotpot_qa",
            "mrqa/natural_questions",
        ),
    ),
    Mixture(
        "summarisation",
        (
            "aeslc",
            "billsum",
            "gigaword",
            "cnn_dailymail",
            "multi_news",
            "samsum",
            "newsroom",
        ),
    ),
)


def mixture(name: "str | Mixture") -> Mixture:
    """Return a mixture by its name; a `Mixture` comes back as it is.

    Raises:
        InvalidArgument: no mixture of that name, with the closest ones.

    >>> mixture("paraphrase").tasks
    ('glue/mrpc', 'glue/qqp', 'glue/stsb')
    """
    if isinstance(name, Mixture):
        return name
    for known in MIXTURES:
        if known.name == name:
            return known
    raise unknown("mixture", name, [known.name for known in MIXTURES])


def _check(argument: str, numbers: Mapping[str, float], tasks: tuple[str, ...]) -> None:
    positive = all(0 < number < math.inf for number in numbers.values())
    if not positive or not set(tasks) <= set(numbers):
        rule = f"must give a positive number for each of {list(tasks)}"
        raise invalid(argument, rule, f"{argument}={dict(numbers)!r}")
