"""`keras-spot train` and `train-bank`."""

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from keras_spot.base.errors import invalid
from keras_spot.cli.app import app, saved_when_stopped
from keras_spot.cli.options import (
    Similarity,
    check_texts,
    like_run,
    prepare_tensorflow,
    run_of,
)
from keras_spot.tasks import METRICS

if TYPE_CHECKING:
    from keras_spot.training.execute import TrainedRun
    from keras_spot.transfer.retrieval import Transferred

__all__ = ["Restart", "train_bank_command", "train_command"]

Restart = Annotated[
    bool, typer.Option("--restart", help="Set what is in the folder aside and start anew.")
]


@app.command("train")
@like_run
def train_command(
    run_dir: Annotated[Path, typer.Option(help="Folder of the run; again continues it.")],
    prompt_init_mean: Annotated[
        list[str] | None,
        typer.Option(
            help="Start from the mean of these prompts: once for each. Default: from --prompt-init."
        ),
    ] = None,
    prompt_init_text: Annotated[
        str | None,
        typer.Option(help="Start from the embeddings of this text. Default: from --prompt-init."),
    ] = None,
    transfer: Annotated[
        Literal["top-k", "average", "learned", "mixture", "arithmetic"] | None,
        typer.Option(
            help="Start from the most similar prompts of --library: the best of them by "
            "validation, their average weighted by similarity or by learned weights, a prompt of "
            "their tasks' mixture, or "
            "(experimental) the sum of their task vectors. Default: from --prompt-init."
        ),
    ] = None,
    library: Annotated[
        str | None, typer.Option(help="Library of source prompts, for --transfer. Default: none.")
    ] = None,
    k: Annotated[int, typer.Option("--k", help="How many prompts to transfer from.")] = 3,
    similarity: Similarity = "per_token_cosine",
    weights: Annotated[
        Literal["softmax", "free"] | None,
        typer.Option(
            help="Of --transfer learned: shares of sum 1, or any numbers. Default: softmax."
        ),
    ] = None,
    train_weights: Annotated[
        Literal["before", "with"] | None,
        typer.Option(
            help="Of --transfer learned: when the weights are trained, before the prompt or with "
            "it. Default: before."
        ),
    ] = None,
    embedding_steps: Annotated[
        int | None,
        typer.Option(help="Steps of the task embedding. Default: as the library's."),
    ] = None,
    restart: Restart = False,
    **given: Any,
) -> None:
    """Train a soft prompt; the same command again continues an interrupted run."""
    if (transfer is None) != (library is None):
        received = f"{transfer=}, {library=}"
        raise invalid("transfer", "must be given together with `library`", received)
    for name, value in {"weights": weights, "train_weights": train_weights}.items():
        if value is not None and transfer != "learned":
            raise invalid(name, "must be given with transfer='learned'", f"{name}={value!r}")
    starts = [f"prompt_init={path!r}" for path in given["prompt_init"] or ()]
    starts += [f"{prompt_init_mean=}"] if prompt_init_mean else []
    starts += [f"{prompt_init_text=}"] if prompt_init_text is not None else []
    if transfer is not None and starts:
        rule = "must not be given with `transfer`, which finds one"
        raise invalid("prompt_init", rule, starts[0])
    if len(starts) > 1:
        rule = "must be given once; a mean is --prompt-init-mean, once for each prompt"
        raise invalid("prompt_init", rule, ", ".join(starts))
    run = run_of(given)
    prepare_tensorflow()
    from keras_spot.base import hosts, progress
    from keras_spot.prompts import initializers
    from keras_spot.training.execute import execute
    from keras_spot.transfer.retrieval import Learned, retrieve

    if prompt_init_mean:
        run = dataclasses.replace(run, prompt_init=initializers.mean_of(prompt_init_mean))
    elif prompt_init_text is not None:
        (text,) = check_texts([prompt_init_text])
        run = dataclasses.replace(run, prompt_init=initializers.from_text(text))
    with saved_when_stopped(), progress.bars() as follow:
        if transfer is None or library is None:
            report = follow(run.members[0].name, run.total_steps)
            bank = execute(run, run_dir, progress=report, restart=restart)
            trained, transferred = bank.runs[run.members[0].name], None
        else:
            options: dict[str, Any] = {"by": similarity, "embedding_steps": embedding_steps}
            strategy: str | Learned = transfer
            if transfer == "learned":
                strategy = Learned(weights or "softmax", joint=train_weights == "with")
            transferred = retrieve(strategy, run, run_dir, library, k=k, progress=follow, **options)
            trained = transferred.run
    if not hosts.is_chief():
        return
    if transferred is not None:
        _show_sources(transferred)
        if transferred.weights:
            _draw_weights(transferred, run_dir)
    if trained.best:
        typer.echo(_best(trained))
    typer.echo(f"run: {run_dir}")


@app.command("train-bank")
@like_run
def train_bank_command(
    run_dir: Annotated[Path, typer.Option(help="Folder of the bank; again continues it.")],
    name: Annotated[
        list[str] | None,
        typer.Option(help="A name for each prompt. Default: what tells them apart."),
    ] = None,
    prompt_init_multitask: Annotated[
        str | None,
        typer.Option(
            metavar="ADAPTER",
            help="Go on from a multitask adapter of PEFT, its tasks in turn, by default with its "
            "shared prompt and factors (--reparameterization shared). Default: from --prompt-init.",
        ),
    ] = None,
    restart: Restart = False,
    **given: Any,
) -> None:
    """Train several prompts at once on one backbone: tasks, seeds or learning rates.

    An option that is given once is for all prompts, one that is given once for each prompt is
    theirs in turn.
    """
    if prompt_init_multitask is not None:
        given = _from_multitask(prompt_init_multitask, given)
    run = run_of({**given, "names": name}, bank=True)
    prepare_tensorflow()
    from keras_spot.base import hosts, progress
    from keras_spot.training.execute import execute

    with saved_when_stopped(), progress.bars() as follow:
        bank = execute(run, run_dir, progress=follow("bank", run.total_steps), restart=restart)
    if not hosts.is_chief():
        return
    for of_prompt, trained in bank.runs.items():
        best = f" {_best(trained)}" if trained.best else ""
        typer.echo(f"{of_prompt}:{best} run: {trained.run_dir}")


def _from_multitask(adapter: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return options with the initial prompts of an adapter's tasks, and what trains them."""
    if given["prompt_init"]:
        rule = "must not be given with `prompt_init_multitask`"
        raise invalid("prompt_init", rule, f"prompt_init={given['prompt_init'][0]!r}")
    prepare_tensorflow()
    from keras_spot.prompts import initializers

    starts = initializers.multitask(adapter)
    given = {**given, "prompt_init": starts}
    if given["reparameterization"] is None:
        given["reparameterization"] = {"shared": {"rank": starts[0].rank}}
    return given


def _best(trained: "TrainedRun") -> str:
    assert trained.best is not None
    line = next((one for one in trained.history if one["step"] == trained.best["step"]), {})
    names = [name for name in METRICS if name in line]
    of = f"the mean of {' and '.join(names)}" if len(names) > 1 else "".join(names)
    more = f" ({of})" if of else ""
    return f"best: {trained.best['score']:.2f} at step {trained.best['step']}{more}"


def _draw_weights(transferred: "Transferred", run_dir: Path) -> None:
    """Draw the sources' weights into the run's folder, where matplotlib is installed."""
    from keras_spot.base.errors import MissingExtra
    from keras_spot.study import plots

    assert transferred.weights is not None
    with contextlib.suppress(MissingExtra):
        plots.source_weights(transferred.sources, transferred.weights, run_dir / "weights.svg")


def _show_sources(transferred: "Transferred") -> None:
    """Print the ranking and what was used of it."""
    from rich.console import Console
    from rich.table import Table

    numbers = transferred.weights or transferred.scores or [1.0] * len(transferred.sources)
    used = {name: f"{number:.3f}" for name, number in zip(transferred.sources, numbers)}
    table = Table("source", "similarity", "score" if transferred.scores else "weight")
    for name, similarity in transferred.ranking[: max(10, len(used))]:
        table.add_row(name, f"{similarity:.3f}", used.get(name, ""))
    Console().print(table)
