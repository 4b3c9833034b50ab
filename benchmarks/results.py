"""Measurements on disk: one JSON file that a later run of the runner completes."""

import datetime
import json
from pathlib import Path
from typing import Any

from keras_spot.base.atomic import atomic_write

FILE = "results.json"


class Results:
    """The measurements in a folder.

    Args:
        folder: where `results.json` lies or will lie.
        conditions: what must be the same for measurements to stand in one table (sizes, cores,
            machine).

    Raises:
        ValueError: the file holds measurements under other conditions.
    """

    def __init__(self, folder: Path, conditions: dict[str, Any]):
        self.path = folder / FILE
        conditions = json.loads(json.dumps(conditions))
        self.content: dict[str, Any] = {"conditions": conditions, "versions": {}, "measured": {}}
        if self.path.is_file():
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            if kept.get("conditions") != conditions:
                raise ValueError(
                    f"{self.path} was measured with other sizes, cores or machine; "
                    "choose another --output, or remove it"
                )
            self.content = kept

    @property
    def measured(self) -> dict[str, dict[str, Any]]:
        """Finished measurements by `Part.key`."""
        return self.content["measured"]

    def add(self, key: str, measurement: dict[str, Any]) -> None:
        """Keep a measurement, and write the file."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.measured[key] = {**measurement, "date": now}
        self.write()

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path, "w") as file:
            file.write(json.dumps(self.content, indent=1) + "\n")
