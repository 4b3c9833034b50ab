"""What a server serves: prompts by name, each with the engine that answers for it."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from keras_spot.base.errors import invalid
from keras_spot.serving.engines.base import Engine
from keras_spot.serving.held import HeldPrompt, PromptFolder
from keras_spot.serving.limits import Refused
from keras_spot.tasks.card import TaskCard

__all__ = ["EVERY", "Models", "Served"]

EVERY = "keras_spot"
"""The name under which each row names its own prompt."""


@dataclasses.dataclass(frozen=True)
class Served:
    """A prompt that is served.

    Attributes:
        name: what callers call it.
        engine: what answers for it.
        prompt: what the engine takes: its name there, or the prompt itself.
        card: how it is asked.
    """

    name: str
    engine: Engine
    prompt: str | HeldPrompt
    card: TaskCard


class Models:
    """The prompts of some engines, and of a folder that is looked at while serving.

    Args:
        engines: exported models, loaded.
        folder: prompts beside the first of them, which take the place of exported ones of the same
            name. Default: none.

    Raises:
        InvalidArgument: two prompts of one name.
    """

    def __init__(self, engines: Sequence[Engine], folder: PromptFolder | None = None) -> None:
        self.engines, self.folder = engines, folder
        exported: dict[str, Served] = {}
        for engine in engines:
            for prompt, card in engine.cards.items():
                name = card.name if len(engine.cards) == 1 else prompt
                if name in exported or name == EVERY:
                    raise invalid("models", "must have prompts of different names", f"{name!r}")
                exported[name] = Served(name, engine, prompt, card)
        self._exported = exported
        self._served: Mapping[str, Served] = exported
        self.refresh()

    def refresh(self) -> bool:
        """Look at the folder of prompts; return whether others are served than before."""
        if self.folder is None or not self.folder.poll():
            return False
        held = {
            name: Served(name, self.engines[0], prompt, prompt.card)
            for name, prompt in self.folder.held.items()
        }
        if held.pop(EVERY, None) is not None:
            self.folder.problems[EVERY] = "must have another name, which is that of all prompts"
        self._served = {**self._exported, **held}
        return True

    @property
    def served(self) -> Mapping[str, Served]:
        """The prompts by name, as they are now; never changed, only replaced."""
        return self._served

    def get(self, name: str) -> Served:
        """Return a prompt by its name.

        Raises:
            Refused: 404, with the closest names.
        """
        served = self._served
        if name not in served:
            close = difflib.get_close_matches(name[:100], served, n=2)
            hint = f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
            raise Refused(404, f"no task of that name is served: {name[:100]!r}{hint}")
        return served[name]

    def record(self) -> list[dict[str, Any]]:
        """Return what is served as plain data, for `/v1/models`."""
        return [
            {
                **one.card.record(),
                "name": one.name,
                "task": one.card.name,
                "engine": one.engine.name,
                "source": "exported" if isinstance(one.prompt, str) else "folder",
            }
            for one in self._served.values()
        ]
