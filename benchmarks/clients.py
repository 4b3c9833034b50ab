"""What clients of `keras-spot serve` wait for, beside PEFT's generation behind the same server.

    python -m benchmarks.clients [--requests N] [--quick]

A random T5 of T5 1.1 small's shape with prompts of 100 rows is exported in each form and served;
every request is one text of 20 words, its answer 8 tokens. The table has the waiting time of one
client, and of 8 at once: of one task, and of two tasks in turns. Another has one client's waiting
time, and the server's memory, with 1 and with 1,000 prompts beside the model. About 15 minutes on
2 cores that do nothing else. The peer needs `[parity]`; an engine that is not installed is left
out.
"""

import contextlib
import http.client
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import settings, workload

CLIENTS = 8
LENGTH = 8
ENGINES = {
    "TensorFlow": ("tensorflow", "savedmodel", None),
    "CTranslate2": ("ctranslate2", "ctranslate2", None),
    "CTranslate2 int8": ("ctranslate2", "ctranslate2", "int8"),
    "ONNX Runtime": ("onnxruntime", "onnx", None),
    "ONNX Runtime int8": ("onnxruntime", "onnx", "int8"),
}
HOLDS = ("TensorFlow", "ONNX Runtime int8")
WORDS = ["a", "fine", "film", "though", "nobody", "has", "seen", "it", "in", "the", "rain"]
EXPORT = """
import json, sys
import numpy as np
import keras_spot
from keras_spot import backbones
backbone, rows, wanted = json.loads(sys.argv[1])
_, tokenizer = backbones.load("tiny")
model = keras_spot.build(
    backbone, list(np.load(rows)), tokenizer=tokenizer, prompt_names=["one", "two"],
    input_length=128, target_length=8)
for path, form, quantize in wanted:
    try:
        options = {"quantize": quantize} if quantize else {}
        model.export(path, format=form, max_length=8, **options)
    except keras_spot.errors.MissingExtra as error:
        print(error)
"""


def main(
    requests: Annotated[int, typer.Option(help="Requests of each measurement.")] = 200,
    prompts: Annotated[int, typer.Option(help="Prompts beside the model.")] = 1000,
    quick: Annotated[bool, typer.Option(help="A toy, to try the script.")] = False,
) -> None:
    """Serve each form, ask it and print the tables."""
    sizes = settings.QUICK if quick else settings.Settings()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workload.write_backbone(folder / "backbone", sizes.shape)
        rows = np.stack([workload.prompt(sizes.prompt, sizes.shape.width)] * 2)
        np.save(folder / "prompts.npy", rows)
        np.save(folder / "prompt.npy", rows[0])
        _export(folder)
        print(
            "| engine | one client: median ms | p99 | 8 clients: median ms | p99 | answers/s",
            end="",
        )
        print(" | two tasks: answers/s |\n|---|---|---|---|---|---|---|")
        peer = ("-m", "benchmarks.peft_server", folder, LENGTH)
        _print_waits("PEFT, the same server", peer, ("one",), requests)
        for engine in ENGINES:
            if (folder / engine).exists():
                _print_waits(engine, _serve(folder, engine), ("one", "two"), requests)
        print(
            "\n| engine | prompts beside the model | median ms | p99 | MB |\n|---|---|---|---|---|"
        )
        for engine in (name for name in HOLDS if (folder / name).exists()):
            for count in (1, prompts):
                beside = folder / f"{count} prompts"
                _write_prompts(beside, count, rows[0])
                with _served((*_serve(folder, engine), "--prompts", beside)) as server:
                    waits = _ask(server, ["p0"], requests)
                    print(f"| {engine} | {count} | {_times(waits)} | {server.megabytes():.0f} |")


def _export(folder: Path) -> None:
    wanted = [[str(folder / name), form, mode] for name, (_, form, mode) in ENGINES.items()]
    asked = [str(folder / "backbone"), str(folder / "prompts.npy"), wanted]
    subprocess.run([sys.executable, "-c", EXPORT, json.dumps(asked)], check=True, stdout=sys.stderr)


def _serve(folder: Path, name: str) -> tuple[Any, ...]:
    engine, *_ = ENGINES[name]
    return "-m", "keras_spot", "serve", folder / name, "--engine", engine, "--port", 0


def _write_prompts(folder: Path, count: int, values: np.ndarray) -> None:
    from keras_spot import prompts

    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"p{number}.npz"
        if not place.exists():
            prompts.write(place, values + rng.normal(0, 0.1, values.shape).astype("float32"))


def _print_waits(name: str, command: Sequence[Any], tasks: Sequence[str], requests: int) -> None:
    with _served(command) as server:
        alone = _ask(server, tasks[:1], requests)
        together, seconds = _ask_at_once(server, tasks[:1], requests)
        line = f"| {name} | {_times(alone)} | {_times(together)} | {len(together) / seconds:.1f} |"
        if len(tasks) > 1:
            mixed, seconds = _ask_at_once(server, tasks, requests)
            line += f" {len(mixed) / seconds:.1f}"
        print(f"{line} |", flush=True)


class Server:
    """A server in a process of its own."""

    def __init__(self, process: Any, address: str) -> None:
        self.process, self.place = process, urllib.parse.urlsplit(address)

    def megabytes(self) -> float:
        """Return its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(status.split("VmRSS:")[1].split()[0]) / 1000


@contextlib.contextmanager
def _served(command: Sequence[Any]) -> Iterator[Server]:
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)], stdout=subprocess.PIPE, stderr=errors, text=True
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if address := re.search(r"http://\S+", line):
                    yield Server(process, address[0])
                    return
            errors.seek(0)
            raise RuntimeError(f"the server ended: {errors.read().decode()[-2000:]}")
        finally:
            process.kill()
            process.wait()


def _ask(server: Server, tasks: Sequence[str], count: int, seed: int = 0) -> list[float]:
    """Return the seconds that each of a client's requests took; the first few are left out."""
    rng = np.random.default_rng(seed)
    connection = http.client.HTTPConnection(server.place.hostname or "", server.place.port)
    seconds = []
    for number in range(count + 5):
        body = json.dumps({"instances": [" ".join(rng.choice(WORDS, 20))]})
        began = time.perf_counter()
        connection.request("POST", f"/v1/models/{tasks[number % len(tasks)]}:predict", body)
        answer = connection.getresponse()
        record = answer.read()
        if answer.status != 200:
            raise RuntimeError(record.decode())
        seconds.append(time.perf_counter() - began)
    connection.close()
    return seconds[5:]


def _ask_at_once(server: Server, tasks: Sequence[str], requests: int) -> tuple[list[float], float]:
    """Return the waiting times of clients who ask at once, and how long all took."""
    waits: list[float] = []

    def client(number: int) -> None:
        own = tasks[number % len(tasks)]
        waits.extend(_ask(server, [own], requests // CLIENTS, number))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return waits, (time.perf_counter() - began) * len(waits) / (len(waits) + 5 * CLIENTS)


def _times(seconds: Sequence[float]) -> str:
    median, late = np.percentile(seconds, [50, 99]) * 1000
    return f"{median:.1f} | {late:.1f}"


if __name__ == "__main__":
    typer.run(main)
