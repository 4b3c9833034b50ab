"""One command that shows a prompt being transferred, measured, drawn and served."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = "synthetic/movies"
TARGET = "synthetic/products"
TARGET_EXAMPLES = 16
SOURCE_STEPS = 250
TARGET_STEPS = 40
EVERY = 10
SEEDS = (0, 1, 2)
VALIDATION = 200
TEXT = "products sentence: the charger broke after two days, a complete waste of money"


@dataclasses.dataclass(frozen=True)
class DemoResult:
    """What the demo measured.

    Attributes:
        source_score: validation accuracy of the source prompt on its own task.
        scores: name of the initial prompt -> validation accuracy at the last step, by seed.
        curves: name -> for every seed the (step, accuracy) pairs.
        text: the text asked of the exported model.
        answer: its answer.
        folder: where everything lies.
    """

    source_score: float
    scores: dict[str, list[float]]
    curves: dict[str, list[list[tuple[int, float]]]]
    text: str
    answer: str
    folder: Path


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
    examples of its own. Run again, it continues or shows what is already there.

    Args:
        folder: where runs, `learning_curves.png` and `saved_model/` go. Default `spot-demo`.
        source_steps: steps on the source. Default 250.
        target_steps: steps on the target, for every seed and initial prompt. Default 40.
        seeds: one target run each, from 0 on. Default three.
        validation: validation examples. Default 200.
    """
    import tensorflow as tf

    from keras_spot import backbones
    from keras_spot.base import progress
    from keras_spot.study import plots
    from keras_spot.training.train import train

    folder = Path(folder)
    backbone, tokenizer = backbones.load("tiny")
    recipe = dataclasses.replace(backbones.recipe_for("tiny"), checkpoint_every=EVERY)

    with progress.bars() as follow:

        def run(name: str, task: str, steps: int, description: str, **options: Any) -> Any:
            return train(
                task,
                folder / "runs" / name,
                backbone=backbone,
                tokenizer=tokenizer,
                steps=steps,
                method="rank",
                validation_limit=validation,
                strategy=tf.distribute.get_strategy(),
                data_dir=folder / "tfds",
                progress=follow(description, steps),
                **options,
            )

        slow = dataclasses.replace(recipe, checkpoint_every=source_steps)
        source = run("source", SOURCE, source_steps, f"source {SOURCE}", recipe=slow)
        curves: dict[str, list[list[tuple[int, float]]]] = {}
        starts = {"transferred (SPoT)": source.run_dir, "sampled vocabulary": None}
        for name, start in starts.items():
            for seed in seeds:
                trained = run(
                    f"{'scratch' if start is None else 'spot'}-{seed}",
                    TARGET,
                    target_steps,
                    f"target from {name}, seed {seed}",
                    recipe=recipe,
                    prompt_init=start,
                    split=f"train[{seed * TARGET_EXAMPLES}:{(seed + 1) * TARGET_EXAMPLES}]",
                    seed=seed,
                )
                points = [(line["step"], line["score"]) for line in trained.history]
                curves.setdefault(name, []).append(points)
                if start is not None and seed == seeds[0]:
                    best = trained.model
    plots.learning_curves(
        curves,
        folder / "learning_curves.png",
        title=f"{TARGET}, {TARGET_EXAMPLES} examples, {len(seeds)} seeds",
        ylabel="validation accuracy",
    )
    best.export(folder / "saved_model")
    served = tf.saved_model.load(folder / "saved_model").signatures["serving_default"]
    answer = served(text=tf.constant([TEXT]))["outputs"].numpy()[0].decode()
    scores = {name: [run[-1][1] for run in runs] for name, runs in curves.items()}
    return DemoResult(source.history[-1]["score"], scores, curves, TEXT, answer, folder)


def show(result: DemoResult) -> None:
    """Print a demo's table and where its files are."""
    from rich.console import Console
    from rich.table import Table

    steps = [step for step, _ in next(iter(result.curves.values()))[0]]
    title = f"{TARGET}: validation accuracy, mean ± standard deviation over the seeds"
    table = Table("initial prompt", *(f"step {step}" for step in steps), title=title)
    for name, runs in result.curves.items():
        scores = np.array([[score for _, score in run] for run in runs])
        cells = (f"{m:.1f} ± {s:.1f}" for m, s in zip(scores.mean(axis=0), scores.std(axis=0)))
        table.add_row(name, *cells)
    console = Console()
    console.print(f"source {SOURCE}: {result.source_score:.1f}")
    console.print(table)
    console.print(f"picture: {result.folder / 'learning_curves.png'}")
    console.print(f"served from {result.folder / 'saved_model'}:")
    console.print(f"  {result.text!r} -> {result.answer!r}")
