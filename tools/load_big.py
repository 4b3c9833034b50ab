"""What loading a big backbone holds: a synthetic T5 in shards, loaded over several devices.

    python -m tools.load_big                                  # T5-large, JAX on 8 and TensorFlow
    python -m tools.load_big --size base --dtype float32 --quantize int8
    python -m tools.load_big --folder DIR                     # keeps the shards there
    python -m tools.load_big --hosts 2 --backends jax         # each with half of the devices

It writes bfloat16 weights in four safetensors shards, loads them in a process for each backend, and
prints the most that the process held beyond what it held before, beside the bound: what the host's
devices hold and 1.2 times the largest tensor. Arithmetic tells the same of sizes that are too big
for this machine.
"""

import argparse
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot.backbones.converters.architecture import Architecture
from keras_spot.backbones.converters.huggingface import CONFIG, INDEX, config_of
from keras_spot.backbones.converters.names import HUGGING_FACE
from keras_spot.model.plan import SIZES, architecture

SHARDS = 4
MARGIN = 1.2  # times the largest tensor
_WIDTHS = {"float32": 4, "bfloat16": 2}
_TOY = Architecture(512, 32, 1, 1, 2, 16, 64, "gelu_new", gated=True, tied=False)


def shapes(size: Architecture) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of every tensor as Hugging Face stores it."""
    stored = {}
    for name, path in HUGGING_FACE.expand(size).items():
        shape = size.shape_of(path)
        last = path.rsplit(".", 1)[-1]
        stored[name] = shape[::-1] if last in HUGGING_FACE.transposed else shape
    return stored


def write(folder: Path, size: Architecture, shards: int = SHARDS) -> None:
    """Write a Hugging Face folder with the weights of a T5 in bfloat16, tensor by tensor."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(config_of(size)), encoding="utf-8")
    stored = shapes(size)
    bounds = np.array_split(np.array(sorted(stored)), shards)
    files = {str(name): f"model-{i}.safetensors" for i, part in enumerate(bounds) for name in part}
    rng = np.random.default_rng(0)
    # Half of a float32's bytes are a bfloat16: small numbers, the same million over and over.
    numbers = (rng.standard_normal(1 << 20).astype("float32") * 0.05).view("uint16")[1::2].copy()
    for file in sorted(set(files.values())):
        names = [name for name in stored if files[name] == file]
        header, end = {}, 0
        for name in names:
            begin, end = end, end + 2 * math.prod(stored[name])
            header[name] = {"dtype": "BF16", "shape": stored[name], "data_offsets": [begin, end]}
        text = json.dumps(header).encode()
        with (folder / file).open("wb") as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            for name in names:
                for part in _pieces(math.prod(stored[name]), len(numbers)):
                    stream.write(numbers[:part].tobytes())
    index = {"weight_map": files}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def _pieces(count: int, most: int) -> Iterator[int]:
    while count > 0:
        yield min(count, most)
        count -= most


def memory(key: str) -> int:
    """Return a line of /proc/self/status in bytes: VmRSS as it is, VmHWM at its most."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def forget_peak() -> None:
    """Let VmHWM begin anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def measure(folder: str, layout: str, dtype: str, quantize: str | None) -> dict[str, float]:
    """Return what loading a folder takes, in this process."""
    import keras

    from keras_spot import backbones, devices

    picked = devices(layout)
    with tempfile.TemporaryDirectory() as toy:  # all imports, and the runtime's own memory
        write(Path(toy), _TOY, 1)
        backbones.load(toy, dtype=dtype, quantize=quantize)
    forget_peak()
    before, began = memory("VmRSS"), time.monotonic()
    with picked.scope():
        backbone, _ = backbones.load(folder, dtype=dtype, quantize=quantize)
    seconds, peak = time.monotonic() - began, memory("VmHWM") - before
    weights = backbone.variables
    if keras.config.backend() == "jax":
        shards = [shard for w in weights for shard in w.value.addressable_shards]
        held = sum(shard.data.nbytes for shard in shards)
    else:
        held = sum(w.value.numpy().nbytes for w in weights)
    return {"peak": peak, "held": held, "seconds": seconds}


def begin(backend: str, devices: int, hosts: int, *arguments: object) -> list[dict[str, float]]:
    """Return what `measure` returns in a process of its own, or in one for each host."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    flag = f"--xla_force_host_platform_device_count={devices // hosts}"
    environment |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flag}
    environment["PYTHONPATH"] = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    code = f"import json, sys; from {__spec__.name} import measure\n"
    code += "print(json.dumps(measure(*json.loads(sys.argv[1]))))"
    command = [sys.executable, "-W", "ignore", "-c", code, json.dumps(arguments)]
    if hosts > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        environment["KERAS_DISTRIBUTION_JOB_ADDRESSES"] = address
        environment["KERAS_DISTRIBUTION_NUM_PROCESSES"] = str(hosts)
    processes = []
    for number in range(hosts):
        of_this = environment
        if hosts > 1:
            of_this = {**environment, "KERAS_DISTRIBUTION_PROCESS_ID": str(number)}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes.append(subprocess.Popen(command, env=of_this, text=True, **pipes))
    outcomes = [process.communicate() for process in processes]
    for process, (_, err) in zip(processes, outcomes):
        if process.returncode:
            raise SystemExit(f"{backend} failed:\n{err[-2000:]}")
    return [json.loads(out.splitlines()[-1]) for out, _ in outcomes]


def arithmetic(size: str, chips: int = 8) -> str:
    """Return a row for a size in bfloat16: weights, the bound on a CPU, and beside chips."""
    of_size = architecture(size)
    counts = [math.prod(shape) for shape in shapes(of_size).values()]
    held, largest = 2e-9 * sum(counts), 2e-9 * max(counts)
    return (
        f"| {size} | {held:.2f} | {largest:.3f} | {held + MARGIN * largest:.2f} "
        f"| {MARGIN * largest:.2f} | {held / chips:.2f} |"
    )


def main(words: Sequence[str] | None = None) -> None:
    """Parse the command, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tools.load_big")
    parser.add_argument("--size", default="large", choices=SIZES)
    parser.add_argument("--devices", default="model:8", help="layout on JAX; TensorFlow has one")
    parser.add_argument("--host-devices", type=int, default=8)
    parser.add_argument("--hosts", type=int, default=1, help="that share the devices, JAX only")
    parser.add_argument("--dtype", default="bfloat16", choices=_WIDTHS)
    parser.add_argument("--quantize", choices=("int8", "int4"))
    parser.add_argument("--backends", nargs="+", default=["jax", "tensorflow"])
    parser.add_argument("--folder", help="where the shards are kept; default: a scratch folder")
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(asked.folder or scratch) / asked.size
        if not (folder / INDEX).is_file():
            write(folder, architecture(asked.size))
        largest = max(math.prod(s) for s in shapes(architecture(asked.size)).values())
        largest *= _WIDTHS[asked.dtype]
        print(f"T5 {asked.size}, {asked.dtype}, {SHARDS} shards of bfloat16; GB of 10^9 bytes\n")
        print("| backend | devices | held | largest tensor | host peak | bound | seconds |")
        print("|---|---|---|---|---|---|---|")
        for backend in asked.backends:
            layout = asked.devices if backend == "jax" else "one_device"
            options = str(folder), layout, asked.dtype, asked.quantize
            hosts = asked.hosts if backend == "jax" else 1
            for row in begin(backend, asked.host_devices, hosts, *options):
                bound = row["held"] + MARGIN * largest
                gigabytes = [1e-9 * size for size in (row["held"], largest, row["peak"], bound)]
                texts = " | ".join(f"{size:.3f}" for size in gigabytes)
                print(f"| {backend} | {layout} | {texts} | {row['seconds']:.1f} |", flush=True)
    print("\nBy arithmetic, bfloat16: the bound where the CPU holds the weights, that of a host")
    print("beside accelerators, and what each of 8 chips holds of a `model:8` layout.\n")
    print("| size | weights | largest tensor | bound on a CPU | host beside chips | a chip of 8 |")
    print("|---|---|---|---|---|---|")
    for size in ("large", "xl", "xxl"):
        print(arithmetic(size))


if __name__ == "__main__":
    main()
