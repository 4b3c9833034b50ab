"""Where a model is trained and scored: its devices around it, its batches dealt out to them."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_spot.base import devices, hosts, layouts
from keras_spot.base.errors import invalid

__all__ = ["Synced", "dealt", "in_place", "variables_of"]


def in_place(model: Any) -> contextlib.AbstractContextManager:
    """Return the scope of a model's devices, with all that is made already on them.

    Raises:
        InvalidArgument: the scope of other devices around a model that was made outside of any.
    """
    present = keras.distribution.distribution()
    if model.distribution is None and present is not None:
        rule = "must be made inside the scope of its devices, or used outside of it"
        raise invalid(
            "model", rule, f"a model of one device in the scope of {layouts.name_of(present)}"
        )
    optimizer = getattr(model, "optimizer", None)  # there is none before `compile`
    layouts.settle(variables_of([model, optimizer, *model.metrics]), model.distribution)
    return layouts.scope(model.distribution)


def variables_of(owners: Sequence[Any]) -> list[Any]:
    """Return the variables of models, optimisers and metrics, none of what has none."""
    return [variable for owner in owners for variable in getattr(owner, "variables", ())]


def dealt(model: Any, dataset: Any) -> Any:
    """Return batches as the processes of a model, or its replicas, share them."""
    shares = layouts.rows_at_once(model.distribution)
    strategy = getattr(model, "_distribute_strategy", None)  # only TensorFlow's models have one
    if strategy is not None:
        shares = strategy.num_replicas_in_sync
    if shares > 1 and hasattr(dataset, "map"):
        dataset = devices.even_shares(dataset.map(model.preprocess_samples), shares)
    return hosts.rows_of_this(dataset, model.distribution)


class Synced(keras.callbacks.Callback):
    """Puts the numbers of a step back into the model before the user's callbacks are called.

    With JAX a model has none while `fit` runs, and Keras gives them back to who asks for
    `callback.model` alone: not to a function that knows the model by itself.
    """

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self.model  # noqa: B018  asking for it is what puts them back
