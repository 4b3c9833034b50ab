"""Transfer from what a library holds: retrieve similar sources for a task, then start from them.

All of it goes into one run folder, and the same call again continues where it was interrupted:

    RUN/embedding/       the target's own short run from scratch; its prompt is the task embedding
    RUN/transfer.json    the ranking and what was chosen; the library may grow meanwhile
    RUN/sources/1-.../   `top_k`: the target trained from each source
    RUN/mixture/         `mixture`: the sources' tasks trained together
    RUN/                 the result, a run's folder as any other

Source: Vu et al. 2022 (arXiv 2110.07904), section 3. Each function spends more steps than
the final run's: those of the embedding, and `top_k` and `mixture` those of their other runs.
"""

import collections
import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot import backbones, prompts, tasks, transfer
from keras_spot.base import devices
from keras_spot.base.atomic import atomic_folder, atomic_write
from keras_spot.base.errors import invalid
from keras_spot.model.build import build, recorded_attention
from keras_spot.training import run_folder
from keras_spot.training.train import TrainedRun, train
from keras_spot.transfer.library import EMBEDDING_STEP, Entry, PromptLibrary, folder_name

RECORD = "transfer.json"
# Initial prompts that can be made again from their name and seed.
_NAMED = ("sampled_vocab", "class_labels", "uniform")


@dataclasses.dataclass(frozen=True)
class Transferred:
    """What a retrieval gives back.

    Attributes:
        run: the final `TrainedRun`; its folder is a `prompt_init`.
        ranking: (name, similarity) of all sources, the most similar first.
        sources: the names of those that were used, in that order.
        weights: the share of each, where they were weighted, else None.
        scores: of `top_k`, the best validation score from each, else None.
    """

    run: TrainedRun
    ranking: list[tuple[str, float]]
    sources: list[str]
    weights: list[float] | None = None
    scores: list[float] | None = None


def top_k(
    task: str | tasks.Task,
    run_dir: str | os.PathLike,
    library: PromptLibrary | str | os.PathLike,
    *,
    k: int = 3,
    by: str | transfer.Similarity = "per_token_cosine",
    embedding_steps: int | None = None,
    progress: Callable[[str, int], Any] | None = None,
    **training: Any,
) -> Transferred:
    """Train a task from each of the k most similar sources and keep the best by validation.

    Section 3 of the paper, "best of top-k". Of equal scores the more similar source's is kept.

    Args:
        task: name or `tasks.Task` of the target.
        run_dir: folder for everything, see the module.
        library: a `PromptLibrary`, or its folder or address. Entries of the target's own task
            are left out.
        k: how many sources.
        by: a name in `transfer.SIMILARITIES`, or a similarity of one's own.
        embedding_steps: steps of the target's own run that gives its task embedding. Default:
            as many as most embeddings of the library had, so that they are comparable; 10,000
            as in the paper, but no more than `steps`, where the library does not say.
        progress: called with the name and the number of steps of each part; returns what
            `train` takes as `progress`.
        training: the other arguments of `keras_spot.train`, such as `backbone` and `steps`.

    Raises:
        ValueError: k larger than the number of sources, a library of another backbone, a folder
            of another transfer, no validation split, and all that `train` raises.
        FileNotFoundError: data that are not prepared.
    """
    if training.get("validation_split") == "":
        raise invalid("validation_split", "must not be empty to choose the best by", "''")
    work = _Retrieval("top-k", task, run_dir, library, k, by, embedding_steps, progress, training)
    best: Any = None
    scores = []
    for number, source in enumerate(work.sources, 1):
        folder = work.run_dir / "sources" / f"{number}-{folder_name(source)}"
        run = work.train(task, folder, f"from {source}", work.library.prompt(source))
        scores.append(run.best["score"])
        if best is None or scores[-1] > best.best["score"]:
            best = run
    _adopt(best.run_dir, work.run_dir)
    return work.result(dataclasses.replace(best, run_dir=work.run_dir), scores=scores)


def average(
    task: str | tasks.Task,
    run_dir: str | os.PathLike,
    library: PromptLibrary | str | os.PathLike,
    *,
    k: int = 3,
    by: str | transfer.Similarity = "per_token_cosine",
    embedding_steps: int | None = None,
    progress: Callable[[str, int], Any] | None = None,
    **training: Any,
) -> Transferred:
    """Train a task from the similarity-weighted average of the k most similar sources' prompts.

    Section 3 of the paper. The weights are the similarities, normalised to sum 1; a source of
    negative similarity gets none. Arguments and errors as in `top_k`.

    Raises:
        ValueError: also prompts of different lengths, or no positive similarity among them.
    """
    work = _Retrieval("average", task, run_dir, library, k, by, embedding_steps, progress, training)
    weights = work.weights()
    start = transfer.average([work.library.prompt(name).values for name in work.sources], weights)
    return work.result(work.train(task, work.run_dir, "from the average", start), weights=weights)


def mixture(
    task: str | tasks.Task,
    run_dir: str | os.PathLike,
    library: PromptLibrary | str | os.PathLike,
    *,
    k: int = 3,
    by: str | transfer.Similarity = "per_token_cosine",
    embedding_steps: int | None = None,
    mixture_steps: int | None = None,
    progress: Callable[[str, int], Any] | None = None,
    **training: Any,
) -> Transferred:
    """Train one prompt on the k most similar sources' tasks, then the task from that prompt.

    Section 3 of the paper, "multi-task mixture of the top-k"; the tasks are mixed in
    proportion to their sizes up to 2^19. The sources' data must be prepared. Arguments and errors
    as in `top_k`.

    Args:
        mixture_steps: steps on the mixture. Default: as many as on the target.

    Raises:
        ValueError: also entries that name no known task.
    """
    work = _Retrieval("mixture", task, run_dir, library, k, by, embedding_steps, progress, training)
    names = [tasks.get(work.library.entry(source).task or source).name for source in work.sources]
    mixed = tasks.Mixture(f"top {k} for {tasks.get(task).name}", tuple(dict.fromkeys(names)))
    steps = {} if mixture_steps is None else {"steps": mixture_steps}
    # Parts of the target's splits say nothing about the sources'.
    options = {"split": "train", "validation_split": None, **steps}
    source = work.train(mixed, work.run_dir / "mixture", mixed.name, None, **options)
    start = prompts.read(source.run_dir)
    return work.result(work.train(task, work.run_dir, "from the mixture", start))


def arithmetic(
    task: str | tasks.Task,
    run_dir: str | os.PathLike,
    library: PromptLibrary | str | os.PathLike,
    *,
    k: int = 3,
    by: str | transfer.Similarity = "per_token_cosine",
    embedding_steps: int | None = None,
    progress: Callable[[str, int], Any] | None = None,
    **training: Any,
) -> Transferred:
    """Train a task from its own initial prompt plus the sources' weighted task vectors.

    Experimental. A task vector is a trained prompt less its own initial prompt (Belanec et al.
    2024, arXiv 2408.01119), which is made again from its recorded name and seed; the weights
    are those of `average`. Arguments and errors as in `top_k`.

    Raises:
        ValueError: also prompts of different lengths, no positive similarity among them, or
            one that did not start from a named initial prompt, as `add_run` records it.
    """
    work = _Retrieval(
        "arithmetic", task, run_dir, library, k, by, embedding_steps, progress, training
    )
    weights = work.weights()
    vectors = []
    for source in work.sources:
        values = work.library.prompt(source).values
        vectors.append(transfer.task_vector(values, work.initial(work.library.entry(source))))
    start = transfer.add_task_vectors(work.initial(), vectors, weights)
    return work.result(work.train(task, work.run_dir, "from the sum", start), weights=weights)


class _Retrieval:
    """The part that all have in common: the target's embedding, the ranking, the record."""

    def __init__(
        self, strategy, task, run_dir, library, k, by, embedding_steps, progress, training
    ):
        numbers = {"k": k, "embedding_steps": embedding_steps, "steps": training.get("steps")}
        for name, value in numbers.items():
            if value is not None and (type(value) is not int or value < 1):
                raise invalid(name, "must be a positive integer", f"{name}={value!r}")
        if "prompt_init" in training:
            rule = "must not be given: it is what the library is searched for"
            raise invalid("prompt_init", rule, f"prompt_init={training['prompt_init']!r}")
        self.task, self.run_dir, self.k = tasks.get(task), Path(run_dir), k
        self.library = library if isinstance(library, PromptLibrary) else PromptLibrary(library)
        self.similarity = transfer.similarity(by)
        self.progress = progress
        known = self._known_sources()
        if not known:
            rule = f"must hold a source for {self.task.name}"
            raise invalid("library", rule, str(self.library.folder))
        if k > len(known):
            rule = f"must be at most {len(known)}, the library's sources for {self.task.name}"
            raise invalid("k", rule, f"{k=}")

        # One backbone for all runs.
        training = dict(training)
        backbones.warn_of_span_corruption(training.get("backbone"))
        recipe = training.get("recipe") or backbones.recipe_for(training.get("backbone", "tiny"))
        place = training.get("strategy", "auto")
        place = devices.strategy(place) if isinstance(place, str) else place
        with devices.scope(place):
            loaded = backbones.load(
                training.pop("backbone", "tiny"),
                training.get("tokenizer"),
                training.pop("dtype", None),
            )
        training.update(backbone=loaded[0], tokenizer=loaded[1], recipe=recipe, strategy=place)
        if training.get("steps") is None:
            training["steps"] = recipe.steps
        self.training = training
        _check_backbone(loaded[0], known.values())
        if training.get("prompt_attention") is None:
            records = [entry.provenance for entry in known.values()]
            training["prompt_attention"] = recorded_attention("library", records)
        self._retrieve(strategy, by, known, embedding_steps)

    def _known_sources(self) -> dict[str, Entry]:
        entries = self.library.entries()
        return {e.name: e for e in entries if self.task.name not in (e.task, e.name)}

    def _retrieve(self, strategy, by, known, embedding_steps):
        name = by if isinstance(by, str) else getattr(by, "__name__", type(by).__name__)
        asked = {"strategy": strategy, "task": self.task.name, "k": self.k, "by": name}
        if embedding_steps is not None:
            asked["embedding_steps"] = embedding_steps
        file = self.run_dir / RECORD
        if file.is_file():
            self.record = json.loads(file.read_text(encoding="utf-8"))
            for key, value in asked.items():
                if self.record[key] != value:
                    rule = f"must be new or hold a transfer with the same {key} ({value!r})"
                    raise invalid("run_dir", rule, f"{key}={self.record[key]!r} in {self.run_dir}")
        else:
            steps = embedding_steps or _usual_steps(known.values(), self.training["steps"])
            options = {"steps": steps, "validation_split": ""}
            folder = self.run_dir / "embedding"
            self.train(self.task, folder, "task embedding", None, **options)
            query = prompts.read(folder, steps)
            ranking = [
                pair for pair in self.library.rank(query, self.similarity) if pair[0] in known
            ]
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

    def train(self, task, folder, description, prompt_init, **options):
        """Train on the one backbone, or load what is there."""
        training = {**self.training, **options}
        report = self.progress and self.progress(description, training["steps"])
        return train(task, folder, prompt_init=prompt_init, progress=report, **training)

    def weights(self) -> list[float]:
        """Return the sources' similarities as shares that sum to 1."""
        found = np.maximum([similarity for _, similarity in self.ranking[: self.k]], 0)
        if not found.any():
            rule = "must hold a source of positive similarity to weight by"
            raise invalid("library", rule, f"{self.ranking[: self.k]}")
        return (found / found.sum()).tolist()

    def initial(self, entry: Entry | None = None) -> np.ndarray:
        """Return the initial prompt that an entry, or the target, is trained from."""
        training, task = self.training, self.task
        start, seed, length = training["recipe"].prompt_init, training.get("seed", 0), None
        if entry is not None:
            start, seed = entry.provenance.get("prompt_init"), entry.provenance.get("seed", 0)
            length = entry.shape[0]
            if start not in _NAMED:
                rule = (
                    f"must have been trained from one of {', '.join(_NAMED)} to have a task vector"
                )
                raise invalid("source", rule, f"prompt_init={start!r} of {entry.name!r}")
            task = tasks.get(entry.task or entry.name) if start == "class_labels" else task
        with devices.scope(training["strategy"]):
            model = build(
                training["backbone"],
                start,
                prompt_length=length,
                tokenizer=training["tokenizer"],
                recipe=training["recipe"],
                labels=task.labels or None,
                seed=seed,
            )
        return model.prompt

    def result(self, run, **facts) -> Transferred:
        """Complete the record and return what was done."""
        self.record |= {"best": run.best, **facts}
        self._write()
        return Transferred(run, self.ranking, self.sources, **facts)

    def _write(self) -> None:
        with atomic_write(self.run_dir / RECORD, "w") as file:
            json.dump(self.record, file, indent=1)
            file.write("\n")


def _check_backbone(backbone, entries) -> None:
    """Raise before the long run of the embedding what ranking would raise after it."""
    fingerprint, width = backbones.fingerprint(backbone), backbone.hidden_dim
    for entry in entries:
        if entry.shape[1] != width:
            rule = f"must have the backbone's hidden width {width}"
            raise invalid("library", rule, f"shape={entry.shape} of {entry.name!r}")
        if entry.backbone not in (None, fingerprint):
            rule = f"must come from this backbone ({fingerprint})"
            raise invalid("library", rule, f"backbone={entry.backbone!r} of {entry.name!r}")


def _usual_steps(entries, steps: int) -> int:
    """Return the step that most task embeddings come from, the paper's if none is known."""
    known = [entry.embedding_provenance.get("step") for entry in entries]
    counts = collections.Counter(step for step in known if step)
    return counts.most_common(1)[0][0] if counts else min(EMBEDDING_STEP, steps)


def _adopt(winner: Path, run_dir: Path) -> None:
    """Copy a run into another folder; its prompts, by which a run is known, come last."""
    for name in (prompts.RUN_FILE, run_folder.METRICS, run_folder.STATE):
        with atomic_write(run_dir / name) as file:
            file.write((winner / name).read_bytes())
    with atomic_folder(run_dir / prompts.CHECKPOINTS) as folder:
        shutil.copytree(winner / prompts.CHECKPOINTS, folder, dirs_exist_ok=True)
