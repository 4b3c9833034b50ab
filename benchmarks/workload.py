"""What both sides are given: the shape of the model, its weights, prompts and batches (NumPy)."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Shape:
    """A gated T5 with untied matrices; by default T5 1.1 small.

    Attributes:
        layers: of the encoder, and as many of the decoder.
        width: H.
        inner: width of the feed-forward layers.
        heads: attention heads.
        head_width: width of each.
        vocabulary: V.
    """

    layers: int = 8
    width: int = 512
    inner: int = 1024
    heads: int = 6
    head_width: int = 64
    vocabulary: int = 32128


def write_backbone(folder: Path, shape: Shape) -> None:
    """Write a random T5 as a Hugging Face folder, the same one for the same shape.

    Matrices are scaled by their fan-in, so that states and logits stay of order one, those of the
    queries also by the heads' width, since T5 does not scale its scores: at larger scores
    rounding errors grow from layer to layer until two programs choose different tokens.
    """
    from safetensors.numpy import save_file

    from keras_spot.backbones.converters import huggingface
    from keras_spot.backbones.converters.names import HUGGING_FACE

    config: dict[str, Any] = {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "vocab_size": shape.vocabulary,
        "d_model": shape.width,
        "d_kv": shape.head_width,
        "d_ff": shape.inner,
        "num_layers": shape.layers,
        "num_decoder_layers": shape.layers,
        "num_heads": shape.heads,
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": 0.0,
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "tie_word_embeddings": False,
    }
    inner = shape.heads * shape.head_width
    shapes = {
        "shared": (shape.vocabulary, shape.width),
        "lm_head": (shape.vocabulary, shape.width),
        "relative_attention_bias": (32, shape.heads),
        "o": (shape.width, inner),
        **dict.fromkeys("qkv", (inner, shape.width)),
        **dict.fromkeys(("wi_0", "wi_1"), (shape.inner, shape.width)),
        "wo": (shape.width, shape.inner),
    }
    rng = np.random.default_rng(0)
    tensors = {}
    for name in HUGGING_FACE.expand(huggingface.architecture_of(config)):
        kind = name.split(".")[-2]
        if kind not in shapes:
            tensors[name] = np.ones(shape.width, "float32")
            continue
        scale = 1.0 if kind in ("shared", "relative_attention_bias") else shapes[kind][1] ** -0.5
        if kind == "q":
            scale *= shape.head_width**-0.5
        tensors[name] = scale * rng.standard_normal(shapes[kind], "float32")
    folder.mkdir(parents=True)
    (folder / huggingface.CONFIG).write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors, folder / huggingface.WEIGHTS, metadata={"format": "pt"})


def prompt(length: int, width: int) -> np.ndarray:
    """Return the initial prompt, float32 `[P, H]`, of the scale of the embeddings."""
    return np.random.default_rng(1).standard_normal((length, width), "float32")


def batch(rows: int, tokens: int, targets: int, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """Return input ids `[B, T]` and target ids `[B, D]`, int32, without padding."""
    rng = np.random.default_rng(2)
    inputs = rng.integers(3, vocabulary, (rows, tokens))
    return inputs.astype("int32"), rng.integers(3, vocabulary, (rows, targets)).astype("int32")
