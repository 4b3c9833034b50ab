"""A task for which prompts are looked up: its embedding, the ranking, and the runs that follow."""

import collections
import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keras_spot import backbones, prompts, tasks, transfer
from keras_spot.base import devices, reading
from keras_spot.base.atomic import atomic_write
from keras_spot.base.errors import invalid
from keras_spot.base.json_text import to_json
from keras_spot.base.progress import Report
from keras_spot.model.build import recorded_attention
from keras_spot.prompts import initializers
from keras_spot.prompts.initializers import PromptInitializer
from keras_spot.training.execute import Progress, TrainedRun, execute
from keras_spot.training.run import Run
from keras_spot.training.run_folder import RunFolder
from keras_spot.transfer.library import EMBEDDING_STEP, Entry, PromptLibrary

__all__ = ["RECORD", "Follow", "Target"]

RECORD = "transfer.json"
# Initial prompts that can be made again from their name and seed.
_NAMED = ("sampled_vocab", "class_labels", "uniform")

Follow = Callable[[str, int], Report | None]


class Target:
    """The target of a transfer, with the one backbone that all of its runs share.

    Args:
        run: the target's run, without an initial prompt.
        run_dir: folder for everything.
        library: where the source prompts are. Entries of the target's own task are left out.
        k: how many sources.
        by: a name in `transfer.SIMILARITIES`, or a similarity of one's own.
        progress: called with the name and the number of steps of each part; returns what
            `execute` takes as `progress`. Default: `"auto"` for each.

    Attributes:
        ranking: (name, similarity) of all sources, the most similar first; set by `rank`.
        sources: the names of the first k.
    """

    def __init__(
        self,
        run: Run,
        run_dir: str | os.PathLike[str],
        library: PromptLibrary | str | os.PathLike[str],
        k: int = 3,
        by: "str | transfer.Similarity" = "per_token_cosine",
        progress: Follow | Literal["auto"] | None = "auto",
    ):
        if type(k) is not int or k < 1:
            raise invalid("k", "must be a positive integer", f"{k=}")
        if run.prompt_init is not None:
            rule = "must not be given: it is what the library is searched for"
            raise invalid("prompt_init", rule, f"prompt_init={run.prompt_init!r}")
        (self.task,) = run.tasks
        self.folder, self.k, self.progress = RunFolder(run_dir), k, progress
        self.folder.check_place()
        self.library = library if isinstance(library, PromptLibrary) else PromptLibrary(library)
        self.similarity = transfer.similarity(by)
        self.similarity_name = by if isinstance(by, str) else _name_of(by)
        self.known = {
            entry.name: entry
            for entry in self.library.entries()
            if self.task.name not in (entry.task, entry.name)
        }
        if not self.known:
            rule = f"must hold a source for {self.task.name}"
            raise invalid("library", rule, str(self.library.folder))
        if k > len(self.known):
            rule = f"must be at most {len(self.known)}, the library's sources for {self.task.name}"
            raise invalid("k", rule, f"{k=}")
        self.ranking: list[tuple[str, float]] = []
        self.sources: list[str] = []
        self.record = _read_record(self.folder)
        self._load(run)

    def _load(self, run: Run) -> None:
        picked = devices.devices(run.devices)
        backbones.warn_of_span_corruption(run.backbone)
        with picked.scope():
            self.loaded = backbones.load(
                run.backbone, run.tokenizer, run.dtype, quantize=run.quantize
            )
        _check_backbone(self.loaded[0], self.known.values())
        attention = run.prompt_attention
        if attention is None:
            records = [entry.provenance for entry in self.known.values()]
            attention = recorded_attention("library", records)
        self.run = dataclasses.replace(run, devices=picked, prompt_attention=attention)

    def rank(
        self,
        strategy: str,
        embedding_steps: int | None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        """Train the target's embedding and rank the sources, or read what was ranked before.

        Args:
            strategy: its name.
            embedding_steps: see `retrieval.retrieve`.
            settings: of the strategy. Default: none.

        Raises:
            InvalidArgument: the folder holds another transfer.
        """
        asked: dict[str, Any] = {
            "strategy": strategy,
            "task": self.task.name,
            "k": self.k,
            "by": self.similarity_name,
        }
        if settings:
            asked["settings"] = dict(settings)
        if embedding_steps is not None:
            asked["embedding_steps"] = embedding_steps
        if self.record:
            for key, value in asked.items():
                if self.record.get(key) != value:
                    rule = f"must be new or hold a transfer with the same {key} ({value!r})"
                    received = f"{key}={self.record.get(key)!r} in {self.folder.path}"
                    raise invalid("run_dir", rule, received)
        else:
            steps = embedding_steps or _usual_steps(self.known.values(), self.run.total_steps)
            embedding = self.folder.path / "embedding"
            self.train(embedding, "task embedding", None, steps=steps, validation_split="")
            query = prompts.read(embedding, steps)
            pairs = self.library.rank(query, self.similarity)
            ranking = [pair for pair in pairs if pair[0] in self.known]
            self.record = {
                **asked,
                "embedding_steps": steps,
                "library": str(self.library.folder),
                "ranking": ranking,
                "sources": [name for name, _ in ranking[: self.k]],
            }
            self._write()
        self.ranking = [(name, similarity) for name, similarity in self.record["ranking"]]
        self.sources = self.record["sources"]

    def train(self, folder: Path, description: str, prompt_init: Any, **changes: Any) -> TrainedRun:
        """Train on the one backbone, or load what is there; `changes` are of the target's run."""
        run = dataclasses.replace(self.run, prompt_init=prompt_init, **changes)
        report: Progress = "auto"
        if self.progress != "auto":
            report = self.progress and self.progress(description, run.total_steps)
        trained = execute(run, folder, loaded=self.loaded, progress=report)
        return trained.runs[run.members[0].name]

    def weights(self) -> list[float]:
        """Return the sources' similarities as shares that sum to 1; a negative one is 0.

        Raises:
            InvalidArgument: no positive similarity among them.
        """
        similarities = [similarity for _, similarity in self.ranking[: self.k]]
        positive = np.maximum(similarities, 0)
        if not positive.any():
            rule = "must hold a source of positive similarity to weight by"
            raise invalid("library", rule, f"{self.ranking[: self.k]}")
        return (positive / positive.sum()).tolist()

    def initial(self, entry: Entry | None = None) -> np.ndarray:
        """Return the initial prompt `[P, H]` that an entry, or the target, is trained from.

        Raises:
            InvalidArgument: an entry that did not start from a named initial prompt.
        """
        (member,), recipe, task = self.run.members, self.run.full_recipe, self.task
        start: Any = recipe.prompt_init
        seed, length = member.seed, recipe.prompt_length
        if entry is not None:
            start, seed = entry.provenance.get("prompt_init"), entry.provenance.get("seed", 0)
            length = entry.shape[0]
            if start not in _NAMED:
                rule = (
                    f"must have been trained from one of {', '.join(_NAMED)} to have a task vector"
                )
                raise invalid("source", rule, f"prompt_init={start!r} of {entry.name!r}")
            task = tasks.get(entry.task or entry.name) if start == "class_labels" else task
        backbone, tokenizer = self.loaded
        initializer = initializers.get(start, list(task.labels) or None, seed)
        if isinstance(initializer, PromptInitializer):
            initializer = initializer.completed(tokenizer, backbone.token_embedding.embeddings)
        return np.array(initializer((length, backbone.hidden_dim)))

    def finish(self, run: TrainedRun, **facts: Any) -> None:
        """Complete the record."""
        self.record |= {"best": run.best, **facts}
        self._write()

    def _write(self) -> None:
        with atomic_write(self.folder.path / RECORD, "w") as file:
            file.write(to_json(self.record, indent=1) + "\n")


def _read_record(folder: RunFolder) -> dict[str, Any]:
    """Return the record of a transfer, `{}` where one may begin.

    Raises:
        InvalidArgument: a record that is not ours, or a run that is no transfer's.
        DamagedFile: a record of ours that is damaged.
    """
    file, run = folder.path / RECORD, folder.own_record()
    if not os.path.lexists(file):
        if run:
            rule = "must be new or hold a transfer, not a run alone"
            raise invalid("run_dir", rule, str(folder.path))
        return {}
    rule = "must hold the record of a transfer"
    record = reading.read_record(file, argument="run_dir", rule=rule)
    if not {"strategy", "task", "k", "by", "ranking", "sources"} <= set(record):
        rule = f"must have a {RECORD} that keras_spot wrote, or none"
        raise invalid("run_dir", rule, str(folder.path))
    ranking, sources = record["ranking"], record["sources"]
    with reading.parsing(file, rule, "run_dir"):
        if not isinstance(ranking, list) or not isinstance(sources, list):
            raise ValueError("no ranking and sources")
        for name, value in ranking:
            if not isinstance(name, str) or type(value) not in (int, float):
                raise ValueError(f"a rank that is none, {name!r}")
        if not set(sources) <= {name for name, _ in ranking}:
            raise ValueError("sources that were not ranked")
    return record


def _name_of(similarity: Any) -> str:
    return getattr(similarity, "__name__", type(similarity).__name__)


def _check_backbone(backbone: Any, entries: Iterable[Entry]) -> None:
    """Raise before the long run of the embedding what ranking would raise after it."""
    fingerprint, width = backbones.fingerprint(backbone), backbone.hidden_dim
    for entry in entries:
        if entry.shape[1] != width:
            rule = f"must have the backbone's hidden width {width}"
            raise invalid("library", rule, f"shape={entry.shape} of {entry.name!r}")
        if entry.backbone not in (None, fingerprint):
            rule = f"must come from this backbone ({fingerprint})"
            raise invalid("library", rule, f"backbone={entry.backbone!r} of {entry.name!r}")


def _usual_steps(entries: Iterable[Entry], steps: int) -> int:
    """Return the step that most task embeddings come from, the paper's if none is known."""
    known = [entry.embedding_provenance.get("step") for entry in entries]
    counts = collections.Counter(step for step in known if step)
    return counts.most_common(1)[0][0] if counts else min(EMBEDDING_STEP, steps)
