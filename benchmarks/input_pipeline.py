"""How fast examples come out of the input pipeline, and how much of a batch is padding.

    python benchmarks/input_pipeline.py [--task NAME]... [--json FILE]

Cost: about a minute. Reads prepared TFDS data and a T5 SentencePiece model, by default those in
../shared/data. Expected on two free cores: at least 20,000 SST-2 examples a second, and under
15% padding on SST-2, RTE and BoolQ. Measured in November 2026 on 2 cores, TensorFlow 2.21, batch
32, at real-time priority because the machine was shared: SST-2 31,800 examples a second (46 µs of
CPU each); padding over one whole epoch, its half-full last batches included: SST-2 10.2%, RTE
12.7%, BoolQ 12.9%. In an endless run no batch is half full: 10.0%, 10.6%, 11.0%.
"""

import itertools
import json
import os
import pathlib
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from keras_spot.base.cores import usable_cores

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"


def main(
    task: Annotated[list[str] | None, typer.Option(help="Task to measure; repeatable.")] = None,
    data_dir: Annotated[pathlib.Path, typer.Option(help="TFDS directory.")] = SHARED / "tfds",
    tokenizer: Annotated[pathlib.Path, typer.Option(help="SentencePiece model.")] = (
        SHARED / "t5_32k.spm"
    ),
    batch_size: int = 32,
    seconds: Annotated[float, typer.Option(help="Time to measure each task's speed for.")] = 5.0,
    json_file: Annotated[pathlib.Path | None, typer.Option("--json", help="Write here.")] = None,
) -> None:
    """Measure the training split of each task."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    from keras_hub.tokenizers import T5Tokenizer

    pieces = T5Tokenizer(proto=tokenizer.read_bytes())
    names = task or ["glue/sst2", "glue/rte", "super_glue/boolq"]
    rows = [measure(name, pieces, data_dir, batch_size, seconds) for name in names]
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(stderr=True).print(table)
    text = json.dumps({"batch_size": batch_size, "cores": usable_cores(), "tasks": rows}, indent=1)
    if json_file:
        json_file.write_text(text + "\n", encoding="utf-8")
    print(text)


def measure(name, tokenizer, data_dir, batch_size, seconds):
    """Return the figures of one task: a full epoch's padding, then the speed of endless ones."""
    from keras_spot import load_task

    used = positions = rows = 0
    lengths = set()
    for x, _, weight in load_task(name, "train", tokenizer, batch_size, data_dir=data_dir):
        mask = x["encoder_padding_mask"].numpy()
        used += int(mask.sum())
        positions += mask.size
        lengths.add(mask.shape[1])
        rows += int(weight.numpy().any(axis=1).sum())

    batches = iter(load_task(name, "train", tokenizer, batch_size, data_dir=data_dir, repeat=True))
    for _ in itertools.islice(batches, 200):  # warm-up
        pass
    count, start, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        next(batches)
        count += 1
    elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "task": name,
        "examples": rows,
        "examples/s": round(count * batch_size / elapsed),
        "CPU µs/example": round(1e6 * cpu / (count * batch_size), 1),
        "padding %": round(100 * (1 - used / positions), 1),
        "lengths": sorted(lengths),
    }


if __name__ == "__main__":
    typer.run(main)
