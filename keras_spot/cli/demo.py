"""One command that shows a prompt being transferred, measured, drawn and served."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot.base.errors import check_installed
from keras_spot.base.progress import Watcher
from keras_spot.study.analysis import mean_spread

__all__ = [
    "EVERY",
    "SEEDS",
    "SOURCE",
    "SOURCE_STEPS",
    "TARGET",
    "TARGET_EXAMPLES",
    "TARGET_STEPS",
    "TEXT",
    "VALIDATION",
    "DemoResult",
    "run_demo",
    "show",
]

SOURCE = "synthetic/movies"
TARGET = "synthetic/products"
TRANSFERRED, SAMPLED = "transferred (SPoT)", "sampled vocabulary"
TARGET_EXAMPLES = 16
SOURCE_STEPS = 250
TARGET_STEPS = 40
EVERY = 10
SEEDS = (0, 1, 2)
VALIDATION = 200
_PICTURE, _SAVED_MODEL = "learning_curves.png", "saved_model"
_RUNS, _DATA = "runs", "tfds"
TEXT = "products sentence: the charger broke after two days, a complete waste of money"


@dataclasses.dataclass(frozen=True)
class DemoResult:
    """What the demo measured.

    Attributes:
        source_score: validation accuracy of the source prompt on its own task.
        scores: name of the initial prompt -> validation accuracy at the last step, by seed.
        curves: name -> for every seed the (step, accuracy) pairs, from step 0 on: the initial
            prompt as it is.
        kept: name -> the step that validation would keep, of the highest mean over the seeds. The
            exported model has the first seed's transferred prompt of that step.
        text: the text asked of the exported model.
        answer: its answer.
        folder: where everything lies.
        replaced: the earlier outputs of a demo there that were replaced.
    """

    source_score: float
    scores: dict[str, list[float]]
    curves: dict[str, list[list[tuple[int, float]]]]
    kept: dict[str, int]
    text: str
    answer: str
    folder: Path
    replaced: list[Path] = dataclasses.field(default_factory=list, compare=False)


def run_demo(
    folder: str | os.PathLike = "spot-demo",
    *,
    source_steps: int = SOURCE_STEPS,
    target_steps: int = TARGET_STEPS,
    seeds: tuple[int, ...] = SEEDS,
    validation: int = VALIDATION,
) -> DemoResult:
    """Train a source prompt, transfer it to a small related task, compare, export, answer.

    The source is sentiment about films, the target sentiment about products with 16 training
    examples; both are synthetic and prepared offline. The comparison gives the same
    number of steps to a prompt sampled from the vocabulary, over three seeds, each with 16
    examples of its own. Both are scored at step 0, too: what a source prompt knows of the target
    before it has seen one example of it. Run again, it continues or shows what is already there.

    Args:
        folder: where runs, `learning_curves.png` and `saved_model/` go. Default `spot-demo`.
        source_steps: steps on the source. Default 250.
        target_steps: steps on the target, for every seed and initial prompt. Default 40.
        seeds: one target run each, from 0 on. Default three.
        validation: validation examples. Default 200.

    Raises:
        InvalidArgument: another's picture, saved model or runs are in the folder, or only what
            others have put there; or it is an address.
        MissingExtra: without matplotlib (`pip install 'keras-spot[plots]'`), before anything runs.
    """
    check_installed("plots", "matplotlib")
    from keras_spot import backbones
    from keras_spot.base import progress
    from keras_spot.base.devices import here
    from keras_spot.training.train import train

    folder = Path(folder)
    replaced = _earlier_outputs(folder)
    backbone, tokenizer = backbones.load("tiny")
    recipe = dataclasses.replace(
        backbones.recipe_for("tiny"), steps=target_steps, checkpoint_every=EVERY
    )

    with progress.bars() as follow:

        def run(name: str, task: str, description: str, recipe: Any, **options: Any) -> Any:
            return train(
                task,
                folder / _RUNS / name,
                backbone=backbone,
                tokenizer=tokenizer,
                recipe=recipe,
                steps=recipe.steps,
                method="rank",
                validation_limit=validation,
                devices=here(),
                data_dir=folder / _DATA,
                progress=follow(description, recipe.steps),
                **options,
            )

        once = dataclasses.replace(recipe, steps=source_steps, checkpoint_every=source_steps)
        source = run("source", SOURCE, "source: films", once)
        first = _first_scores(
            (backbone, tokenizer),
            source.run_dir,
            seeds,
            validation,
            folder / _DATA,
            follow("initial prompts", 1 + len(seeds)),
        )
        curves, model = _target_runs(run, source.run_dir, first, seeds, recipe)
        scores = {name: [curve[-1][1] for curve in runs] for name, runs in curves.items()}
        kept = {name: _kept(runs) for name, runs in curves.items()}
        step = kept[TRANSFERRED]
        start = folder / _RUNS / f"spot-{seeds[0]}" if step else source.run_dir
        model.load_prompt(start, step or None)
        exporting = follow("export", 1)
        exporting.started(0, 1)
        answer = _served(model, folder / _SAVED_MODEL)
        exporting(1, 1, {})
    result = DemoResult(
        source.history[-1]["score"],
        scores,
        curves,
        kept,
        text=TEXT,
        answer=answer,
        folder=folder,
        replaced=replaced,
    )
    _draw(result)
    return result


def _target_runs(
    run: Callable[..., Any],
    source: Path,
    first: dict[str, dict[int, float]],
    seeds: tuple[int, ...],
    recipe: Any,
) -> tuple[dict[str, list[list[tuple[int, float]]]], Any]:
    """Train on the target from both prompts; return the curves and the first transferred model."""
    curves: dict[str, list[list[tuple[int, float]]]] = {}
    model = None
    for name, start in {TRANSFERRED: source, SAMPLED: None}.items():
        for seed in seeds:
            trained = run(
                f"{'scratch' if start is None else 'spot'}-{seed}",
                TARGET,
                f"{'sampled' if start is None else 'SPoT'}, seed {seed}",
                recipe,
                prompt_init=start,
                split=f"train[{seed * TARGET_EXAMPLES}:{(seed + 1) * TARGET_EXAMPLES}]",
                seed=seed,
            )
            later = [(line["step"], line["score"]) for line in trained.history]
            curves.setdefault(name, []).append([(0, first[name][seed]), *later])
            model = model or trained.model
    return curves, model


def _first_scores(
    loaded: tuple[Any, Any],
    source: Path,
    seeds: tuple[int, ...],
    validation: int,
    data_dir: Path,
    watcher: Watcher,
) -> dict[str, dict[int, float]]:
    """Return by name and seed what the initial prompts score on the target before any step.

    All of them are prompts of one bank, so that one model is compiled.
    """
    from keras_spot import tasks
    from keras_spot.data import target_limit
    from keras_spot.model.build import build
    from keras_spot.training.evaluate import evaluate

    task = tasks.get(TARGET)
    watcher.started(0, 1 + len(seeds))
    model = build(
        loaded[0],
        [str(source), *["sampled_vocab" for _ in seeds]],
        tokenizer=loaded[1],
        input_length=task.max_input_length,
        target_length=target_limit(task, loaded[1], data_dir),
        seed=[0, *seeds],
        prompt_names=[TRANSFERRED, *[f"{SAMPLED}-{seed}" for seed in seeds]],
    )

    scores = []
    for prompt in [TRANSFERRED, *[f"{SAMPLED}-{seed}" for seed in seeds]]:
        evaluation = evaluate(
            model,
            task,
            method="rank",
            limit=validation,
            data_dir=data_dir,
            prompt=prompt,
            progress=None,
        )
        scores.append(evaluation.scores["score"])
        watcher(len(scores), 1 + len(seeds), {"score": scores[-1]})
    return {  # the transferred prompt is the same whatever the seed
        TRANSFERRED: dict.fromkeys(seeds, scores[0]),
        SAMPLED: dict(zip(seeds, scores[1:])),
    }


def _kept(runs: list[list[tuple[int, float]]]) -> int:
    """Return the step of the highest mean over the seeds, the first of equals."""
    means = np.mean([[score for _, score in run] for run in runs], axis=0)
    return runs[0][int(means.argmax())][0]


def _served(model: Any, folder: Path) -> str:
    """Export a model and return what the export answers to `TEXT`."""
    import tensorflow as tf

    model.export(folder)
    signature = tf.saved_model.load(folder).signatures["serving_default"]
    return str(signature(text=tf.constant([TEXT]))["outputs"].numpy()[0].decode())


def _draw(result: DemoResult) -> None:
    from keras_spot.study import plots

    seeds = len(next(iter(result.curves.values())))
    plots.learning_curves(
        result.curves,
        result.folder / _PICTURE,
        title=f"{TARGET}, {TARGET_EXAMPLES} examples, {seeds} seeds",
        ylabel="validation accuracy",
        mark_best=True,
    )


def _earlier_outputs(folder: Path) -> list[Path]:
    """Return what an earlier demo left of the two outputs that are written anew.

    Raises:
        InvalidArgument: something else is there.
    """
    from keras_spot.base import remote
    from keras_spot.base.errors import invalid
    from keras_spot.base.ownership import check, check_shared
    from keras_spot.model.export import SAVED_MODEL
    from keras_spot.study.plots.style import PICTURE

    if remote.is_remote(folder):
        raise invalid("folder", "must be on this machine", remote.address(folder))
    kinds = {_PICTURE: PICTURE, _SAVED_MODEL: SAVED_MODEL}
    ours = {*kinds, _RUNS, _DATA}
    check_shared(folder, "demo", "folder", lambda place: place.name in ours)
    return [folder / name for name, kind in kinds.items() if check(folder / name, kind)]


def show(result: DemoResult) -> None:
    """Print a demo's table and where its files are."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("step", *result.curves, box=box.SIMPLE_HEAD)
    steps = [step for step, _ in next(iter(result.curves.values()))[0]]
    for i, step in enumerate(steps):
        cells = []
        for name, runs in result.curves.items():
            mean, spread = mean_spread([run[i][1] for run in runs])
            text = f"{mean:.1f}" if np.isnan(spread) else f"{mean:.1f} ± {spread:.1f}"
            cells.append(text + (" *" if step == result.kept[name] else ""))
        table.add_row(str(step), *cells)
    console = Console()
    console.print(f"source {SOURCE}: {result.source_score:.1f}, validation accuracy")
    console.print(
        f"target {TARGET}, {TARGET_EXAMPLES} examples: validation accuracy, mean ± standard "
        "deviation over the seeds; step 0 is the initial prompt as it is, * the step that "
        "validation would keep"
    )
    console.print(table)
    for text in (
        *[f"replaced: {path}" for path in result.replaced],
        f"picture: {result.folder / _PICTURE}",
        f"served from {result.folder / _SAVED_MODEL}, {TRANSFERRED} at step "
        f"{result.kept[TRANSFERRED]}:",
        f"  {result.text}",
        f"  -> {result.answer}",
    ):
        console.print(text, soft_wrap=True)
