"""Transfer from what a library holds: retrieve similar sources for a task, then start from them.

All of it goes into one run folder, and the same call again continues where it was interrupted:

    RUN/embedding/       the target's own short run from scratch; its prompt is the task embedding
    RUN/transfer.json    the ranking and what was chosen; the library may grow meanwhile
    RUN/sources/1-.../   `TopK`: the target trained from each source
    RUN/mixture/         `MixtureOfSources`: the sources' tasks trained together
    RUN/weights/         `Learned`: the run that learns the sources' weights
    RUN/                 the result, a run's folder as any other

Source: Vu et al. 2022 (arXiv 2110.07904), section 3. Each strategy spends more steps than
the final run's: those of the embedding, and `TopK` and `MixtureOfSources` those of their other
runs.
"""

import dataclasses
import math
import os
from typing import Any, Literal

import numpy as np

from keras_spot import prompts, tasks, transfer
from keras_spot.base.errors import invalid, unknown
from keras_spot.base.meeting import check_alone
from keras_spot.training.execute import TrainedRun
from keras_spot.training.owner import TRANSFER_LOCK
from keras_spot.training.run import Run
from keras_spot.training.run_folder import RunFolder
from keras_spot.transfer.library import PromptLibrary, folder_name
from keras_spot.transfer.target import Follow, Target

__all__ = [
    "Arithmetic",
    "Average",
    "Learned",
    "MixtureOfSources",
    "Retrieval",
    "TopK",
    "Transferred",
    "retrieve",
]


@dataclasses.dataclass(frozen=True)
class Transferred:
    """What a retrieval gives back.

    Attributes:
        run: the final `TrainedRun`; its folder is a `prompt_init`.
        ranking: (name, similarity) of all sources, the most similar first.
        sources: the names of those that were used, in that order.
        weights: the share of each, where they were weighted, else None.
        scores: of `TopK`, the best validation score from each, else None.
    """

    run: TrainedRun
    ranking: list[tuple[str, float]]
    sources: list[str]
    weights: list[float] | None = None
    scores: list[float] | None = None


class Retrieval:
    """A strategy: what to do with the k most similar sources. A subclass overrides `transfer`.

    Attributes:
        name: what the command line and `transfer.json` call it.
        needs_scores: whether it chooses by validation scores.
    """

    name = ""
    needs_scores = False

    @property
    def settings(self) -> dict[str, object]:
        """What `transfer.json` says beside the name; with others it is another transfer."""
        return {}

    def transfer(self, target: Target) -> tuple[TrainedRun, dict[str, list[float]]]:
        """Train the target from `target.sources`.

        Returns:
            The final run, and what else is known of it: `weights` or `scores` of the sources.
        """
        raise NotImplementedError


class TopK(Retrieval):
    """Train the task from each source and keep the best by validation.

    Section 3 of the paper, "best of top-k". Of equal scores the more similar source's is kept.
    """

    name = "top-k"
    needs_scores = True

    def transfer(self, target: Target) -> tuple[TrainedRun, dict[str, list[float]]]:
        best: TrainedRun | None = None
        highest = -math.inf
        scores: list[float] = []
        for number, source in enumerate(target.sources, 1):
            folder = target.folder.path / "sources" / f"{number}-{folder_name(source)}"
            run = target.train(folder, f"from {source}", target.library.prompt(source))
            score = run.best["score"] if run.best else math.nan
            if score > highest:
                best, highest = run, score
            scores.append(score)
        if best is None:
            raise invalid("score", "must be a number for one source at least", f"{scores}")
        target.folder.adopt(RunFolder(best.run_dir))
        return dataclasses.replace(best, run_dir=target.folder.path), {"scores": scores}


class Average(Retrieval):
    """Train the task from the similarity-weighted average of the sources' prompts.

    Section 3 of the paper. The weights are the similarities, normalised to sum 1; a source of
    negative similarity gets none. Prompts must have one length, and one of them a positive
    similarity.
    """

    name = "average"

    def transfer(self, target: Target) -> tuple[TrainedRun, dict[str, list[float]]]:
        weights = target.weights()
        values = [target.library.prompt(name).values for name in target.sources]
        start = transfer.average(values, weights)
        run = target.train(target.folder.path, "from the average", start)
        return run, {"weights": weights}


class Learned(Retrieval):
    """Train the task from a mixture of the sources' prompts whose weights are learned on the task.

    One number a source, where `Average` takes their similarities, see
    `reparameterizations.SourceMixture`. They start equal, and are trained before the prompt or
    with it. Prompts must have one length.

    Args:
        weights: `"softmax"` (default): shares of sum 1; `"free"`: any numbers.
        joint: train the weights and the prompt in one run. Default False: first the weights, then
            the prompt from what they come to.
        steps: steps for the weights alone. Default: as many as for the task embedding.

    Raises:
        InvalidArgument: an unknown kind of weights, or steps that are no positive integer.
    """

    name = "learned"

    def __init__(
        self,
        weights: Literal["softmax", "free"] = "softmax",
        joint: bool = False,
        steps: int | None = None,
    ):
        if weights not in ("softmax", "free"):
            raise unknown("weights", weights, ("softmax", "free"))
        if steps is not None and (type(steps) is not int or steps < 1):
            raise invalid("steps", "must be a positive integer", f"{steps=}")
        self.weights: Literal["softmax", "free"] = weights
        self.joint = joint
        self.steps = steps

    @property
    def settings(self) -> dict[str, object]:
        return {"weights": self.weights, "joint": self.joint, "steps": self.steps}

    def transfer(self, target: Target) -> tuple[TrainedRun, dict[str, list[float]]]:
        from keras_spot.model.reparameterizations import SourceMixture

        values = [target.library.prompt(name).values for name in target.sources]
        start = transfer.average(values)
        mixture = SourceMixture(np.stack(values), self.weights, self.joint)
        folder = target.folder.path
        if self.joint:
            run = target.train(folder, "from the sources", start, reparameterization=mixture)
            return run, {"weights": _shares(run)}
        steps = self.steps or target.record["embedding_steps"]
        changes: dict[str, Any] = {"steps": steps, "validation_split": ""}
        changes["reparameterization"] = mixture
        learned = target.train(folder / "weights", "sources' weights", start, **changes)
        run = target.train(folder, "from the learned mixture", learned.model.prompt)
        return run, {"weights": _shares(learned)}


def _shares(run: TrainedRun) -> list[float]:
    """Return the learned weights of a `SourceMixture`'s run."""
    layer: Any = run.model.soft_prompt.reparameterization
    return [float(share) for share in layer.shares()]


class MixtureOfSources(Retrieval):
    """Train one prompt on the sources' tasks, then the task from that prompt.

    Section 3 of the paper, "multi-task mixture of the top-k"; the tasks are mixed in
    proportion to their sizes up to 2^19. The sources' data must be prepared, and each must name a
    known task.

    Args:
        steps: steps on the mixture. Default: as many as on the target.
    """

    name = "mixture"

    def __init__(self, steps: int | None = None):
        self.steps = steps

    def transfer(self, target: Target) -> tuple[TrainedRun, dict[str, list[float]]]:
        entries = [target.library.entry(source) for source in target.sources]
        names = dict.fromkeys(tasks.get(entry.task or entry.name).name for entry in entries)
        mixed = tasks.Mixture(f"top {target.k} for {target.task.name}", tuple(names))
        # Parts of the target's splits say nothing about the sources'.
        options: dict[str, Any] = {"split": "train", "validation_split": None, "examples": None}
        if self.steps is not None:
            options["steps"] = self.steps
        folder = target.folder.path / "mixture"
        source = target.train(folder, mixed.name, None, task=mixed, **options)
        start = prompts.read(source.run_dir)
        return target.train(target.folder.path, "from the mixture", start), {}


class Arithmetic(Retrieval):
    """Train the task from its own initial prompt plus the sources' weighted task vectors.

    Experimental. A task vector is a trained prompt less its own initial prompt (Belanec et al.
    2024, arXiv 2408.01119), which is made again from its recorded name and seed; the weights
    are those of `Average`. Each source must have started from a named initial prompt, as
    `PromptLibrary.add_run` records it.
    """

    name = "arithmetic"

    def transfer(self, target: Target) -> tuple[TrainedRun, dict[str, list[float]]]:
        weights = target.weights()
        vectors = []
        for source in target.sources:
            values = target.library.prompt(source).values
            initial = target.initial(target.library.entry(source))
            vectors.append(transfer.task_vector(values, initial))
        start = transfer.add_task_vectors(target.initial(), vectors, weights)
        run = target.train(target.folder.path, "from the sum", start)
        return run, {"weights": weights}


STRATEGIES: dict[str, type[Retrieval]] = {
    strategy.name: strategy for strategy in (TopK, Average, Learned, MixtureOfSources, Arithmetic)
}


def retrieve(
    strategy: str | Retrieval,
    run: Run,
    run_dir: str | os.PathLike[str],
    library: PromptLibrary | str | os.PathLike[str],
    *,
    k: int = 3,
    by: "str | transfer.Similarity" = "per_token_cosine",
    embedding_steps: int | None = None,
    progress: Follow | Literal["auto"] | None = "auto",
) -> Transferred:
    """Train a task from the k prompts of a library that are most similar to its own.

    Args:
        strategy: a `Retrieval`, or the name of one in `STRATEGIES`.
        run: the target's run, without an initial prompt.
        run_dir: folder for everything, see the module.
        library: a `PromptLibrary`, or its folder or address. Entries of the target's own task
            are left out.
        k: how many sources. Default 3.
        by: a name in `transfer.SIMILARITIES`, or a similarity of one's own.
        embedding_steps: steps of the target's own run that gives its task embedding. Default:
            as many as most embeddings of the library had, so that they are comparable; 10,000
            as in the paper, but no more than `steps`, where the library does not say.
        progress: called with the name and the number of steps of each part; returns what
            `train` takes as `progress`. Default: `"auto"` for each part.

    Raises:
        InvalidArgument: k larger than the number of sources, a library of another backbone, a
            folder of another transfer, no validation split for `TopK`, what the strategy says, and
            all that `train` raises.
        MissingFile: data that are not prepared.
    """
    if isinstance(strategy, str):
        if strategy not in STRATEGIES:
            raise unknown("strategy", strategy, STRATEGIES)
        strategy = STRATEGIES[strategy]()
    if embedding_steps is not None and (type(embedding_steps) is not int or embedding_steps < 1):
        raise invalid("embedding_steps", "must be a positive integer", f"{embedding_steps=}")
    if run.is_bank or run.is_mixture:
        raise invalid("run", "must be of one prompt and one task", f"{len(run.tasks)} tasks")
    if strategy.needs_scores and run.validation_split == "":
        raise invalid("validation_split", "must not be empty to choose the best by", "''")
    check_alone(
        "must be one for a transfer, whose runs build on each other's files; train takes more"
    )
    with RunFolder(run_dir).owner.owned(TRANSFER_LOCK):
        target = Target(run, run_dir, library, k, by, progress)
        target.rank(strategy.name, embedding_steps, strategy.settings)
        trained, facts = strategy.transfer(target)
        target.finish(trained, **facts)
    return Transferred(trained, target.ranking, target.sources, **facts)
