"""T5X native checkpoints: a msgpack file `checkpoint` and one zarr array for each large tensor."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot.converters.architecture import Architecture
from keras_spot.converters.fill import check_coverage, fill
from keras_spot.converters.names import T5X, UNUSED_T5X
from keras_spot.errors import invalid

CHECKPOINT = "checkpoint"
PATTERNS = (CHECKPOINT, "target.*")
_ARRAY = 1  # the msgpack extension in which flax stores an array


def load(
    folder: Path, dtype: Any = None, activation: str | None = None, max_distance: int = 128
) -> Any:
    """Return the `T5Backbone` of a T5X checkpoint folder.

    Args:
        folder: holds `checkpoint` and the folders `target.*`; the optimiser's state is not read.
        dtype: dtype policy.
        activation: which a checkpoint does not record. Default: `gelu_new` for gated layers
            (T5 1.1), `relu` for others (T5 1.0).
        max_distance: of the relative position bias, not recorded either. Default 128.

    Raises:
        ModuleNotFoundError: tensorstore or msgpack is not installed.
        ValueError: a missing or broken file, or weights that are not a T5's.
    """
    tensors = ZarrTensors(folder)
    architecture = architecture_of(tensors, activation, max_distance)
    wanted = set(T5X.expand(architecture))
    check_coverage(wanted, set(tensors) - UNUSED_T5X, folder)
    backbone = architecture.build(dtype)
    fill(backbone, tensors, T5X, architecture, {}, folder)
    return backbone


def architecture_of(
    tensors: "ZarrTensors", activation: str | None = None, max_distance: int = 128
) -> Architecture:
    """Return what the shapes of a checkpoint's tensors tell of its T5."""
    gated = "encoder.layers_0.mlp.wi_0.kernel" in tensors
    wi = "wi_0" if gated else "wi"
    needed = [
        "token_embedder.embedding",
        "encoder.relpos_bias.rel_embedding",
        "encoder.layers_0.attention.query.kernel",
        f"encoder.layers_0.mlp.{wi}.kernel",
        "decoder.layers_0.self_attention.query.kernel",
    ]
    check_coverage(needed, [name for name in tensors if name in needed], tensors.folder)
    table, bias, query, dense, _ = (tensors.shape(name) for name in needed)
    heads = bias[0]
    return Architecture(
        vocabulary_size=table[0],
        hidden_dim=table[1],
        encoder_layers=_depth(tensors, "encoder"),
        decoder_layers=_depth(tensors, "decoder"),
        num_heads=heads,
        head_dim=int(np.prod(query[1:])) // heads,
        intermediate_dim=dense[1],
        activation=activation or ("gelu_new" if gated else "relu"),
        gated=gated,
        tied="decoder.logits_dense.kernel" not in tensors,
        buckets=bias[1],
        max_distance=max_distance,
    )


def _depth(tensors: "ZarrTensors", stack: str) -> int:
    found = (re.match(rf"{stack}\.layers_(\d+)\.", name) for name in tensors)
    return 1 + max(int(match[1]) for match in found if match)


class ZarrTensors:
    """The tensors under `target` of a T5X checkpoint; small ones lie in the msgpack file itself.

    Raises:
        ModuleNotFoundError: tensorstore or msgpack is not installed.
        ValueError: no readable checkpoint, an array that is missing or cut short.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._leaves = dict(_flatten(_read_target(folder)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._leaves)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading it."""
        leaf = self._leaves[name]
        return leaf.shape if isinstance(leaf, np.ndarray) else self._open(name, leaf).shape

    def read(self, name: str) -> np.ndarray:
        """Return a tensor in its own dtype."""
        leaf = self._leaves[name]
        if isinstance(leaf, np.ndarray):
            return leaf
        try:
            return self._open(name, leaf).read().result()
        except ValueError as error:
            raise _broken(name, self.folder, error) from None

    def _open(self, name: str, leaf: dict[str, Any]) -> Any:
        import tensorstore

        # Only the last name of the recorded path counts: the folder may have been moved.
        place = self.folder / Path(str(leaf["kvstore"].get("path", f"target.{name}"))).name
        spec = {
            "driver": "zarr",
            "kvstore": {"driver": "file", "path": str(place)},
            "fill_missing_data_reads": False,
        }
        try:
            return tensorstore.open(spec, read=True).result()
        except ValueError as error:
            raise _broken(name, self.folder, error) from None


def _read_target(folder: Path) -> dict[str, Any]:
    try:
        import msgpack
        import tensorstore  # noqa: F401 - also teaches NumPy bfloat16
    except ModuleNotFoundError as error:
        rule = "must be read with an extra: pip install 'keras-spot[t5x]'"
        raise ModuleNotFoundError(str(invalid("backbone", rule, f"no {error.name}"))) from None
    try:
        tree = msgpack.unpackb((folder / CHECKPOINT).read_bytes(), ext_hook=_array)
        target = tree.get("optimizer", tree)["target"]
    except (ValueError, KeyError, TypeError, AttributeError, msgpack.UnpackException) as error:
        rule = f"must hold a readable T5X file `{CHECKPOINT}`"
        raise invalid("backbone", rule, f"{folder} ({type(error).__name__})") from None
    return target


def _array(code: int, data: bytes) -> Any:
    import msgpack

    if code != _ARRAY:
        return msgpack.ExtType(code, data)
    shape, dtype, values = msgpack.unpackb(data)
    return np.frombuffer(values, np.dtype(dtype)).reshape(shape)


def _flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and "kvstore" not in value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _broken(name: str, folder: Path, error: Exception) -> ValueError:
    reason = str(error).splitlines()[0]
    return invalid("backbone", f"must hold a whole array target.{name}", f"{folder} ({reason})")
