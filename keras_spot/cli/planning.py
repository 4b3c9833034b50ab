"""`keras-spot plan`: what a training step needs of each chip, compiled and never run."""

import dataclasses
from typing import Annotated

import typer

from keras_spot.base.errors import invalid
from keras_spot.base.json_text import to_json
from keras_spot.cli.app import app

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
        str, typer.Option(help="Layout, such as model:8 or data:2,model:4.")
    ] = "one_device",
    batch: Annotated[
        list[int] | None, typer.Option(help="Rows; several make a table. Default: 32.")
    ] = None,
    tokens: Annotated[int, typer.Option(help="Input tokens.")] = 512,
    targets: Annotated[int, typer.Option(help="Target tokens.")] = 16,
    prompt_length: Annotated[int, typer.Option(help="P.")] = 100,
    prompt_attention: Annotated[str, typer.Option(help="full, prompt or causal.")] = "full",
    remat: Annotated[bool, typer.Option("--remat", help="Compute whole layers again.")] = False,
    dtype: Annotated[str, typer.Option(help="Dtype policy.")] = "bfloat16",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """Compile a training step for a TPU that is not here, and print what a chip must hold and do.

    From two batch sizes on it also prints the largest batch that fits, by a line through them.
    """
    from keras_spot.model.plan import CHIPS, GIB, Request, plan

    batches = batch or [32]
    if len(set(batches)) < len(batches):
        raise invalid("batch", "must be different numbers", f"{batches}")
    made = []
    for rows in batches:
        request = Request(
            backbone, topology, devices, rows, tokens, targets,
            prompt_length, prompt_attention, remat, dtype,
        )  # fmt: skip
        made.append(plan(request))
        if as_json:
            typer.echo(to_json({**dataclasses.asdict(request), **dataclasses.asdict(made[-1])}))
    if as_json:
        return
    from rich.console import Console
    from rich.table import Table

    columns = ("batch", "weights GiB", "temporaries GiB", "peak GiB", "operations", "bytes")
    table = Table(*columns, "bound s", "compiled in s", title=f"{backbone}, {topology}, {devices}")
    for rows, one in zip(batches, made):
        sizes = (f"{size / GIB:.2f}" for size in (one.arguments, one.temporaries, one.peak))
        bound = "-" if one.bound_seconds is None else f"{one.bound_seconds:.3f}"
        table.add_row(str(rows), *sizes, f"{one.operations:.3g}", f"{one.traffic:.3g}", bound,
                      f"{one.compile_seconds:.0f}")  # fmt: skip
    Console().print(table)
    typer.echo(f"compiled for {made[0].compiled_for}, not run")
    room = CHIPS.get(topology.partition(":")[0])
    if room is not None and len(made) > 1:
        slope = (made[-1].peak - made[0].peak) / (batches[-1] - batches[0])
        fixed = made[0].peak - slope * batches[0]
        largest = int((room[2] - fixed) / slope)
        typer.echo(f"largest batch by a line through these: {largest}")
