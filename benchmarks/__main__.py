"""`python -m benchmarks`: measure the package beside its peer, see README.md."""

import contextlib
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import cases, machine, peer_env, plot, report
from benchmarks.bench import Bench
from benchmarks.protocol import Skip, WorkerError
from benchmarks.results import Results
from benchmarks.settings import QUICK, Settings
from keras_spot.base.cores import usable_cores

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared" / "data"
TINY_VOCABULARY = HERE.parent / "keras_spot/backbones/presets/tiny/assets/tokenizer/vocabulary.spm"
IDLE = 0.3
"""Cores at work from which the machine counts as busy."""

console = Console(stderr=True)


def main(
    only: Annotated[
        str | None, typer.Option(help=f"Cases, comma-separated: {', '.join(cases.CASES)}.")
    ] = None,
    part: Annotated[
        list[str] | None, typer.Option(help="Only measurements with this text; repeatable.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder of results.")] = HERE / "results",
    threads: Annotated[int, typer.Option(help="Cores of each side.")] = usable_cores(),
    data_dir: Annotated[Path, typer.Option(help="Prepared TFDS data.")] = SHARED / "tfds",
    tokenizer: Annotated[Path, typer.Option(help="SentencePiece file.")] = SHARED / "t5_32k.spm",
    peer_environment: Annotated[
        Path, typer.Option("--peer-env", help="Virtual environment of the peer, made if absent.")
    ] = HERE.parent / ".benchmarks" / "peer",
    peer_python: Annotated[
        Path | None, typer.Option(help="Interpreter that has the peer already.")
    ] = None,
    no_peer: Annotated[bool, typer.Option("--no-peer", help="Measure our side alone.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Toy sizes: tests the runner.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Measure what is kept once more.")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Start on a busy machine.")] = False,
) -> None:
    """Measure keras_spot beside PEFT's prompt tuning; a run that is cut short can be continued."""
    names = only.split(",") if only else list(cases.CASES)
    for name in names:
        if name not in cases.CASES:
            raise typer.BadParameter(f"no case {name!r}; there are {', '.join(cases.CASES)}")
    if not 1 <= threads <= usable_cores():
        raise typer.BadParameter(f"--threads must be from 1 to {usable_cores()}")
    if not anyway and (busy := machine.load()) > IDLE:
        console.print(
            f"{busy:.1f} cores are busy with something else, which spoils every figure. "
            "Stop that, or say --anyway."
        )
        raise typer.Exit(2)
    settings = QUICK if quick else Settings()
    conditions = {"machine": machine.describe(), "threads": threads, "sizes": settings.as_json()}
    try:
        results = Results(output, conditions)
    except ValueError as error:
        console.print(str(error))
        raise typer.Exit(2) from None
    if not no_peer and peer_python is None:
        console.print(f"peer's environment: {peer_environment}")
        try:
            peer_python = peer_env.python(peer_environment)
        except RuntimeError as error:
            console.print(f"[red]no peer[/] (--no-peer does without): {error}")
            raise typer.Exit(2) from None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the workers too
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as scratch:
        bench = Bench(
            settings,
            Path(scratch),
            threads,
            None if no_peer else peer_python,
            data_dir,
            TINY_VOCABULARY if quick else tokenizer,
        )
        with contextlib.closing(bench):
            complete = run(bench, results, names, part or [""], again)
    finish(results, settings)
    if not complete:
        raise typer.Exit(1)


def run(bench: Bench, results: Results, names: list[str], texts: list[str], again: bool) -> bool:
    """Make the measurements that are not kept yet; return whether none failed."""
    todo = [
        part
        for part in cases.parts(bench.settings, names)
        if any(text in part.key for text in texts) and (again or part.key not in results.measured)
    ]
    if not todo:
        return True
    try:
        for side in bench.sides:
            results.content["versions"] |= bench.ask(side, "hello")
    except WorkerError as error:
        console.print(f"[red]cannot start[/]: {error}")
        return False
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    complete = True
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task("", total=len(todo))
        for part in todo:
            progress.update(bar, description=part.key)
            try:
                results.add(part.key, measure(bench, part))
            except Skip as reason:
                console.print(f"skipped {part.key}: {reason}")
            except KeyboardInterrupt:
                console.print("interrupted; the same command goes on from here")
                return False
            except Exception as error:
                complete = False
                console.print(f"[red]failed[/] {part.key}: {type(error).__name__}: {error}")
            progress.advance(bar)
    return complete


def measure(bench: Bench, part: cases.Part) -> dict[str, Any]:
    """Make one measurement, with the rates and the crowd that it is to be read with."""
    own = {} if part.case == "accelerator" else {"gemm": bench.gemm}  # it measures the chip's
    bench.others()
    try:
        measured = part.run(bench)
    finally:
        bench.tidy()
    return {**own, **measured, "others": bench.others()}


def finish(results: Results, settings: Settings) -> None:
    """Write and show the tables and the picture."""
    folder = results.path.parent
    known = cases.parts(settings, list(cases.CASES))
    text = report.markdown(results.content, {part.key: part.case for part in known})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text(text, encoding="utf-8")
    drawn = [m for m in results.measured.values() if "letter" in m]
    if drawn:
        plot.slopes(drawn, folder / "slopes.png")
    console.print(Markdown(text))
    console.print(f"written to {folder}")


if __name__ == "__main__":
    typer.run(main)
