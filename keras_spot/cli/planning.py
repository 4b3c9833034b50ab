"""`keras-spot plan`: what training and generation need of each chip, compiled and never run."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_spot.base.errors import invalid
from keras_spot.base.json_text import to_json
from keras_spot.cli.app import app

if TYPE_CHECKING:
    from keras_spot.model.largest_batch import Largest
    from keras_spot.model.plan import Cost, Plan, Request

__all__ = ["plan_command"]


@app.command("plan")
def plan_command(
    backbone: Annotated[
        str, typer.Option(help="t5-small, t5-base, t5-large, t5-xl or t5-xxl.")
    ] = "t5-base",
    topology: Annotated[
        str, typer.Option(help="v5e:2x2, v5p:2x2x1, v6e:2x2, ..., or cpu.")
    ] = "v5e:2x2",
    devices: Annotated[
        str, typer.Option(help="one_device, or a layout such as fsdp:8, model:8 or data:2,model:4.")
    ] = "one_device",
    batch: Annotated[
        list[int] | None, typer.Option(help="Rows; several make a table. Default: 32.")
    ] = None,
    tokens: Annotated[int, typer.Option(help="Input tokens.")] = 512,
    targets: Annotated[int, typer.Option(help="Target tokens, and tokens to generate.")] = 16,
    prompt_length: Annotated[int, typer.Option(help="P.")] = 100,
    prompt_attention: Annotated[str, typer.Option(help="full, prompt or causal.")] = "full",
    remat: Annotated[bool, typer.Option("--remat", help="Compute whole layers again.")] = False,
    quantize: Annotated[str | None, typer.Option(help="int8 or int4. Default: neither.")] = None,
    dtype: Annotated[str, typer.Option(help="Dtype policy.")] = "bfloat16",
    largest: Annotated[
        bool, typer.Option("--largest", help="Search for the largest batch that fits.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """Compile training and generation for a TPU that is not here: memory, work and time of a chip.

    Each program takes minutes to compile. Without libtpu (`pip install 'keras-spot[tpu]'`) all is
    compiled for the CPU instead. `--largest` compiles the training step with up to four more
    batches.
    """
    from keras_spot.model.plan import CPU, Request, has_compiler, plan

    batches = batch or [32]
    if len(set(batches)) < len(batches):
        raise invalid("batch", "must be different numbers", f"{batches}")
    requests = [
        Request(
            backbone, topology, devices, rows, tokens, targets,
            prompt_length, prompt_attention, remat, quantize, dtype,
        )
        for rows in batches
    ]  # fmt: skip
    if largest and topology == CPU:
        raise invalid("largest", "must be asked of a TPU's topology", f"{topology=}")
    for_cpu = topology == CPU or not has_compiler()
    if for_cpu and topology != CPU:
        note = (
            f"libtpu is not installed (pip install 'keras-spot[tpu]'): compiled for CPU instead of "
            f"{topology}; memory and bytes are what XLA for CPU needs"
        )
        typer.echo(note, err=True)
    if requests[0].slow is not None:
        typer.echo(requests[0].slow, err=True)
    plans = []
    with _stages() as report:
        for request in requests:
            begin = f"{backbone}, batch {request.batch}"
            plans.append(plan(request, report=lambda stage: report(f"{begin}: {stage}")))  # noqa: B023
            if as_json:
                typer.echo(to_json(_record(request, plans[-1])))
        best = None
        if largest:
            from keras_spot.model.largest_batch import largest as search

            best = search(requests[-1], plans[-1], lambda stage: report(f"{backbone}, {stage}"))
    if not as_json:
        _show(requests, plans)
    if best is not None:
        typer.echo(to_json({"largest": dataclasses.asdict(best)}) if as_json else _told(best))


def _record(request: Request, made: Plan) -> dict[str, Any]:
    return {**dataclasses.asdict(request), **dataclasses.asdict(made)}


def _show(requests: list[Request], plans: list[Plan]) -> None:
    """Print a row for each program of each batch."""
    from rich.console import Console
    from rich.table import Table

    first = requests[0]
    title = f"{first.backbone}, {first.topology}, {first.devices}: of each chip"
    columns = ("program", "batch", "weights", "kept", "peak", "ops", "bytes", "least", "built")
    table = Table(*columns, title=title)
    for request, made in zip(requests, plans):
        for name, cost in made.costs.items():
            name = "answer" if name == "generation" else name
            table.add_row(name, str(request.batch), *_cells(cost))
    Console().print(table)
    note = (
        f"compiled for {plans[0].compiled_for}, not run; weights, what is kept meanwhile and both "
        "at their peak in GiB; operations, bytes moved, the least time that the chip allows, and "
        "how long the compiler took"
    )
    if any(cost.fits is False for made in plans for cost in made.costs.values()):
        note += "; ! is more than the chip has"
    typer.echo(note)


def _cells(cost: Cost) -> list[str]:
    """Return what a table shows of a program's cost, from its weights on."""

    def shown(value: float | None, text: str, scale: float = 1.0) -> str:
        return "-" if value is None else text.format(value / scale)

    gib = 2.0**30
    return [
        shown(cost.arguments, "{:.2f}", gib),
        shown(cost.temporaries, "{:.2f}", gib),
        shown(cost.peak, "{:.2f}", gib) + ("" if cost.fits is not False else "!"),
        shown(cost.operations, "{:.1e}"),
        shown(cost.traffic, "{:.1e}"),
        shown(cost.bound_seconds, "{:.0f}ms", 1e-3),
        shown(cost.compile_seconds, "{:.0f}s"),
    ]


def _told(best: Largest) -> str:
    """Return what the search for the largest batch has come to."""
    above = "" if best.too_large is None else f"; {best.too_large} do not fit"
    if best.batch is None or best.cost is None:
        return f"no batch that was tried fits{above}"
    peak = best.cost.peak / 2**30
    return f"largest batch that was compiled and fits: {best.batch}, {peak:.2f} GiB{above}"


@contextlib.contextmanager
def _stages() -> Iterator[Callable[[str], None]]:
    """Yield what shows on standard error what is being done, and in a terminal for how long."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda stage: print(stage, file=sys.stderr, flush=True)
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=None)
        yield lambda stage: progress.reset(bar, description=stage)
