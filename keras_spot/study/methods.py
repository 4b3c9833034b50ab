"""Ways of training a prompt that a study compares, each with learning rates to choose from."""

import dataclasses
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from keras_spot.base.errors import invalid, unknown
from keras_spot.study.cells import MIXED, SHARED
from keras_spot.study.entries import StudyTask
from keras_spot.training.options import check_reparameterization

__all__ = ["Method", "best_rate", "check_mixed", "entries"]

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


@dataclasses.dataclass(frozen=True)
class Method:
    """One way of training a prompt.

    Attributes:
        name: what tells it from the others: small letters, digits and hyphens.
        reparameterization: what is trained in the prompt's place, see `keras_spot.build`. Default:
            None, the prompt itself.
        prompt_length: P. Default: the recipe's.
        learning_rates: the rates to choose from, on the sources. Default: the recipe's alone.
        transfer: `"learned"`: there are no runs from scratch or from one source, but one from the
            mean of all sources' prompts, whose weights are trained with the prompt (see
            `reparameterizations.SourceMixture`). `"shared"`: likewise one, from the prompt that a
            bank of all sources shares, which learns from the sources' prompts, with task factors
            of its own (see `reparameterizations.Shared`). Default: None, from each source.

    Raises:
        InvalidArgument: a value that breaks its rule.
    """

    name: str
    reparameterization: Any = None
    prompt_length: int | None = None
    learning_rates: Sequence[float] | None = None
    transfer: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            rule = "must be named by small letters, digits and hyphens"
            raise invalid("methods", rule, f"{self.name!r}")
        check_reparameterization(self.reparameterization)
        if self.transfer not in (None, *MIXED):
            raise unknown("methods", self.transfer, MIXED)
        if self.transfer is not None and self.reparameterization is not None:
            rule = "must have a reparameterization or a transfer, not both"
            raise invalid("methods", rule, self.name)
        length, rates = self.prompt_length, self.learning_rates
        if length is not None and (type(length) is not int or length < 1):
            raise invalid("methods", "must have positive prompt lengths", f"{self.name}: {length}")
        if rates is None:
            return
        rule = "must have a list of different positive learning rates"
        if not isinstance(rates, (list, tuple)) or not rates or len(set(rates)) < len(rates):
            raise invalid("methods", rule, f"{self.name}: {rates!r}")
        if not all(type(rate) in (int, float) and 0 < rate < float("inf") for rate in rates):
            raise invalid("methods", rule, f"{self.name}: {rates!r}")
        object.__setattr__(self, "learning_rates", tuple(map(float, rates)))

    def record(self) -> dict[str, Any]:
        """The method as plain data, without its name."""
        record = dataclasses.asdict(self)
        del record["name"]
        if self.learning_rates is not None:
            record["learning_rates"] = list(self.learning_rates)
        return {key: value for key, value in record.items() if value is not None}


def entries(values: Any) -> dict[str, Method]:
    """Return the methods of a description by name, none for None.

    Raises:
        InvalidArgument: no mapping of names to settings, an unknown setting, or methods of unequal
            numbers of rates, which would not be tuned alike.
    """
    if values is None:
        return {}
    if not isinstance(values, Mapping) or not values:
        rule = "must be a mapping of names to settings"
        raise invalid("methods", rule, f"methods={values!r}")
    methods = {str(name): _entry(str(name), given) for name, given in values.items()}
    counts = {name: len(method.learning_rates or (0,)) for name, method in methods.items()}
    if len(set(counts.values())) > 1:
        rule = "must have the same number of learning rates each, to be tuned alike"
        shown = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise invalid("methods", rule, shown)
    if next(iter(methods.values())).transfer is not None:
        rule = "must begin with one that has runs from scratch, which others are compared with"
        raise invalid("methods", rule, next(iter(methods)))
    return methods


def check_mixed(
    methods: Mapping[str, Method], sources: Sequence[StudyTask], targets: Sequence[StudyTask]
) -> None:
    """Raise InvalidArgument unless there is what methods that mix the sources' prompts need."""
    others = [method for method in methods.values() if not method.transfer]
    for name, method in methods.items():
        if not method.transfer:
            continue
        if len(sources) < 2:
            rule = "must have a method that mixes sources only with two of them or more"
            raise invalid("methods", rule, name)
        if method.prompt_length not in [other.prompt_length for other in others]:
            rule = "must have another method of the same prompt length, to train the sources"
            raise invalid("methods", rule, name)
        taken = [one.name for one in (*sources, *targets) if one.name in MIXED]
        if taken:
            raise invalid("methods", f"must not mix beside a task called {taken[0]}", name)
        if method.transfer != SHARED:
            continue
        names = [source.name for source in sources]
        twice = [target.name for target in targets if target.name in names]
        if twice:
            rule = "must share a prompt only of sources that are no targets"
            raise invalid("methods", rule, f"{name}: {twice[0]}")
        if len({(one.split, one.validation, one.method) for one in sources}) > 1:
            rule = "must share a prompt only of sources with the same splits and method"
            raise invalid("methods", rule, f"{name}: {', '.join(names)}")


def _entry(name: str, given: Any) -> Method:
    if isinstance(given, Method):
        return given
    known = [field.name for field in dataclasses.fields(Method) if field.name != "name"]
    if given is not None and not isinstance(given, Mapping):
        raise invalid("methods", "must be a mapping of names to settings", f"{name}: {given!r}")
    for setting in given or {}:
        if setting not in known:
            raise unknown("methods", setting, known)
    return Method(name, **(given or {}))


def best_rate(method: Method, rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the rate of a method whose mean score on the sources is the best.

    Args:
        method: the method; one with a single rate has that, None the recipe's.
        rows: the rows of its tuning runs. Of equal means the rate that is listed first is taken.
    """
    rates = method.learning_rates
    if rates is None or len(rates) == 1:
        return rates[0] if rates else None
    scores = {
        rate: statistics.fmean(row["score"] for row in rows if row["rate"] == rate)
        for rate in rates
    }
    return max(scores, key=lambda rate: scores[rate])
