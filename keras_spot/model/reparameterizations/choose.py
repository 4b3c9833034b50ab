"""From what `build` takes as a reparameterization to the layer."""

import inspect
import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from keras_spot.base.errors import invalid, unknown
from keras_spot.model.reparameterizations.base import Reparameterization
from keras_spot.model.reparameterizations.low_rank import LowRank
from keras_spot.model.reparameterizations.residual import Residual
from keras_spot.model.reparameterizations.shared import Shared
from keras_spot.model.reparameterizations.vocabulary_mixture import VocabularyMixture

__all__ = ["NAMED", "Spec", "describe", "get"]

Spec: TypeAlias = str | Mapping[str, Mapping[str, object]] | Reparameterization
"""What a reparameterization is given as, see `get`."""

NAMED: dict[str, type[Reparameterization]] = {
    kind.name_in_records: kind for kind in (Residual, LowRank, VocabularyMixture, Shared)
}


def get(reparameterization: Spec | None) -> Reparameterization | None:
    """Return the layer that a `reparameterization` stands for, None for None.

    Args:
        reparameterization: a name of `NAMED`, such as `"residual"`; a name with settings, such as
            `{"low-rank": {"rank": 16}}`, or the same as JSON; or a `Reparameterization`.

    Raises:
        InvalidArgument: an unknown name or setting, or a value that breaks its rule.

    >>> get({"low-rank": {"rank": 16}}).rank
    16
    """
    given: Any = reparameterization
    if given is None or isinstance(given, Reparameterization):
        return given
    if isinstance(given, str):
        given = _parsed(given) if given.lstrip().startswith("{") else {given: {}}
    rule = 'must be a name, or one name with its settings as {"low-rank": {"rank": 16}}'
    if not isinstance(given, Mapping) or len(given) != 1:
        raise invalid("reparameterization", rule, f"{reparameterization!r}")
    ((name, settings),) = given.items()
    if name not in NAMED:
        raise unknown("reparameterization", name, NAMED)
    kind = NAMED[name]
    if not isinstance(settings, Mapping):
        raise invalid("reparameterization", rule, f"{reparameterization!r}")
    known = [p for p in inspect.signature(kind).parameters if p not in ("rows", "kwargs")]
    for setting in settings:
        if setting not in known:
            raise unknown("reparameterization", setting, known)
    return kind(**settings)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise invalid("reparameterization", "must be a name or JSON", f"{text} ({error})") from None


def describe(reparameterization: Spec | None) -> dict[str, dict[str, object]] | None:
    """Return what a run's record says of a reparameterization: name and all settings."""
    layer = get(reparameterization)
    return None if layer is None else layer.describe()
