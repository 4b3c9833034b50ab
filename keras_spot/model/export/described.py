"""What an exported model says of itself in its `task.json`, whichever its format."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_spot import tasks as catalog
from keras_spot.base.errors import invalid, unknown
from keras_spot.base.versions import versions
from keras_spot.tasks.card import TaskCard

__all__ = ["cards_of", "facts_of"]


def cards_of(model: Any, tasks: Any = None) -> dict[str, TaskCard]:
    """Return the card of each prompt of a model by the prompt's name.

    Args:
        model: `PromptedT5`.
        tasks: what the prompt was trained on: a task, its name or a `TaskCard`; of a bank a list
            of K, or a mapping from prompts' names. Default: not known; callers give ready texts.

    Raises:
        InvalidArgument: an unknown task, a card of what no task can be, or tasks of another number
            than prompts.
    """
    names = ("prompt",) if model.prompt_names is None else model.prompt_names
    if isinstance(tasks, Mapping):
        for name in tasks:
            if name not in names:
                raise unknown("tasks", name, names)
        given = [tasks.get(name) for name in names]
    elif isinstance(tasks, (list, tuple)):
        given = list(tasks)
    else:
        given = [tasks] * len(names)
    if len(given) != len(names):
        rule = f"must be {len(names)}, one for each prompt"
        raise invalid("tasks", rule, f"{len(given)}")
    cards = {name: _card(task, name) for name, task in zip(names, given)}
    for card in cards.values():  # what nobody could read again
        TaskCard.from_record(dataclasses.asdict(card))
    if model.prompt_names is None:
        (card,) = cards.values()
        return {card.name: card}
    return cards


def facts_of(model: Any, max_length: int) -> dict[str, Any]:
    """Return what a caller, or another prompt, must know of a model: JSON-able facts."""
    return {
        "backbone": model.fingerprint,
        "prompt_length": model.prompt_length,
        "width": model.backbone.hidden_dim,
        "prompt_attention": model.prompt_attention,
        "max_input_length": model.preprocessor.encoder_sequence_length,
        "max_target_length": max_length,
        "versions": versions(),
    }


def _card(task: Any, name: str) -> TaskCard:
    if task is None:
        return TaskCard(name)
    return task if isinstance(task, TaskCard) else TaskCard.of(catalog.get(task))
