"""Time and peak memory of turning a Hugging Face T5 into a KerasHub preset.

    python benchmarks/convert_backbone.py [--size base]

Writes a random T5 1.1 as one safetensors file to a scratch folder, then runs `keras-spot convert`
on it in a process of its own. Expected for base, 248 million parameters: under 60 s and 2.5 GB.
"""

import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from typing import Annotated

import numpy as np
import typer
from safetensors.numpy import save_file

from keras_spot.backbones.converters import huggingface
from keras_spot.backbones.converters.names import HUGGING_FACE

# d_model, layers, heads, d_ff
SIZES = {
    "tiny": (64, 2, 2, 128),
    "small": (512, 8, 6, 1024),
    "base": (768, 12, 12, 2048),
    "large": (1024, 24, 16, 2816),
}


def main(size: Annotated[str, typer.Option(help=", ".join(SIZES))] = "base") -> None:
    """Measure one size and print the figures as JSON."""
    with tempfile.TemporaryDirectory() as scratch:
        source, output = pathlib.Path(scratch, "hf"), pathlib.Path(scratch, "preset")
        parameters = write_random(source, *SIZES[size])
        start = time.perf_counter()
        command = [sys.executable, "-m", "keras_spot.cli", "convert", str(source), str(output)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures = {
        "size": size,
        "parameters": parameters,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_gb": round(used.ru_maxrss * 1024 / 1e9, 2),
    }
    print(json.dumps(figures))


def write_random(folder: pathlib.Path, d_model: int, layers: int, heads: int, d_ff: int) -> int:
    """Write a random T5 1.1 and return its number of parameters."""
    config = {
        "model_type": "t5",
        "d_model": d_model,
        "d_ff": d_ff,
        "num_layers": layers,
        "num_heads": heads,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
    }
    folder.mkdir()
    (folder / huggingface.CONFIG).write_text(json.dumps(config))
    shapes = {
        "shared": (32128, d_model),
        "lm_head": (32128, d_model),
        "relative_attention_bias": (32, heads),
        "o": (d_model, heads * 64),
        **dict.fromkeys("qkv", (heads * 64, d_model)),
        **dict.fromkeys(("wi_0", "wi_1"), (d_ff, d_model)),
        "wo": (d_model, d_ff),
    }
    rng = np.random.default_rng(0)
    names = HUGGING_FACE.expand(huggingface.architecture_of(config))
    tensors = {
        name: rng.standard_normal(shapes.get(name.split(".")[-2], (d_model,)), "float32")
        for name in names
    }
    save_file(tensors, folder / huggingface.WEIGHTS)
    return sum(tensor.size for tensor in tensors.values())


if __name__ == "__main__":
    typer.run(main)
