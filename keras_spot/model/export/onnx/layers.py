"""The layers of a T5 as ONNX nodes.

Letters: B rows, S positions, Q queries, K keys, H hidden width, n heads of width d, I = n d,
F width of the feed-forward block.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_spot.model.export.onnx.graph import OF_RUNTIME, Graph

__all__ = ["FAR", "MASKED", "Layers", "numbers"]

FAR = 128  # distances from here on have one bias
MASKED = -1e9


class Layers:
    """Layers of KerasHub's T5, added to a graph.

    Args:
        graph: what gets the nodes.
        backbone: a `T5Backbone`.
        activation: Hugging Face's name of its activation.
        int8: make products with weights in 8 bits.
    """

    def __init__(self, graph: Graph, backbone: Any, activation: str, int8: bool = False) -> None:
        self.graph, self.backbone, self.activation = graph, backbone, activation
        self.int8 = int8
        attention = backbone.encoder_transformer_layers[0].self_attention
        self.heads, self.width = attention.num_heads, attention.key_value_dim

    def norm(self, name: str, layer: Any, x: str) -> str:
        """Return `x` behind a `T5LayerNorm`: x / sqrt(mean(x^2) + epsilon), scaled."""
        g = self.graph
        square = g.op("Pow", x, g.constant(2.0, "float32"))
        mean = g.op("ReduceMean", square, g.constant([-1]), keepdims=1)
        root = g.op("Sqrt", g.op("Add", mean, g.constant(layer.epsilon, "float32")))
        return g.op("Mul", g.op("Div", x, root), g.weight(name, numbers(layer.weight)))

    def product(self, name: str, x: str, projectors: Sequence[Any]) -> Any:
        """Return the products of `x` with the kernels of projectors, a list for several.

        In float32 they are made in one and split; in 8 bits `x` is rounded once for all.
        """
        g = self.graph
        kernels = [numbers(projector.kernel) for projector in projectors]
        if len(kernels) == 1:
            return self.times(name, x, kernels[0])
        if self.int8:
            rounded = self._in_8_bits(x)
            return [self._times_8_bits(f"{name}.{i}", *rounded, k) for i, k in enumerate(kernels)]
        product = self.times(name, x, np.concatenate(kernels, axis=1))
        sizes = g.constant([kernel.shape[1] for kernel in kernels])
        return g.op("Split", product, sizes, axis=-1, outputs=len(kernels))

    def times(self, name: str, x: str, kernel: np.ndarray) -> str:
        """Return `x` times a kernel `[K, N]`, in 8 bits if that is asked for."""
        if self.int8:
            return self._times_8_bits(name, *self._in_8_bits(x), kernel)
        return self.graph.op("MatMul", x, self.graph.weight(name, kernel))

    def _in_8_bits(self, x: str) -> tuple[str, str]:
        """Return `x` as uint8 around 128, and what one of it stands for at each position.

        Every position has a scale of its own. One scale for all positions, as ONNX Runtime's
        dynamic quantisation has, loses those of a text beside a prompt's, which are many times
        larger, and lets the rows of a batch change each other.
        """
        g = self.graph
        last = g.constant([-1])
        above = g.op("ReduceMax", x, last, keepdims=1)
        below = g.op("Neg", g.op("ReduceMin", x, last, keepdims=1))
        largest = g.op("Max", above, below, g.constant(1e-12, "float32"))
        step = g.op("Mul", largest, g.constant(1 / 127, "float32"))
        steps = g.op("Reshape", step, last)
        zeros = g.op("Expand", g.constant(128, "uint8"), g.op("Shape", steps))
        rounded = g.op("QuantizeLinear", g.op("Flatten", x, axis=2), steps, zeros, axis=0)
        return g.op("Reshape", rounded, g.op("Shape", x)), step

    def _times_8_bits(self, name: str, rounded: str, step: str, kernel: np.ndarray) -> str:
        """Return what `_in_8_bits` gave times a kernel, whose every column has a scale, too.

        The operator is ONNX Runtime's own: in standard ones (MatMulInteger, Cast, Mul) what
        follows the product takes twice as long as the product.
        """
        g = self.graph
        scale = np.maximum(np.abs(kernel).max(axis=0), np.float32(1e-12)) / np.float32(127)
        weight = g.weight(f"{name}.int8", np.round(kernel / scale).astype("int8"))
        scales = g.constant(1.0, "float32"), g.weight(f"{name}.scale", scale)
        product = g.op(
            "MatMulIntegerToFloat", rounded, weight, *scales, g.constant(128, "uint8"),
            domain=OF_RUNTIME,
        )  # fmt: skip
        return g.op("Mul", product, step)

    def by_head(self, x: str) -> str:
        """`[B, S, I]` -> `[B, n, S, d]`."""
        g = self.graph
        apart = g.op("Reshape", x, g.constant([0, 0, self.heads, self.width]))
        return g.op("Transpose", apart, perm=[0, 2, 1, 3])

    def attend(self, query: str, key: str, value: str, bias: str) -> str:
        """Return attention `[B, Q, I]` of heads `[B, n, ., d]`; T5 scales no scores."""
        g = self.graph
        scores = g.op("MatMul", query, g.op("Transpose", key, perm=[0, 1, 3, 2]))
        weights = g.op("Softmax", g.op("Add", scores, bias), axis=-1)
        mixed = g.op("Transpose", g.op("MatMul", weights, value), perm=[0, 2, 1, 3])
        return g.op("Reshape", mixed, g.constant([0, 0, self.heads * self.width]))

    def feed_forward(self, name: str, layer: Any, x: str) -> str:
        """Return `x` behind a layer's feed-forward block."""
        g = self.graph
        y = self.norm(f"{name}.norm", layer.layer_norm, x)
        projectors = [layer.input_projector]
        if layer.use_gated_activation:
            inner, gate = self.product(
                f"{name}.in", y, [layer.input_projector, layer.gate_projector]
            )
            inner = g.op("Mul", self.activated(inner), gate)
        else:
            inner = self.activated(self.product(f"{name}.in", y, projectors))
        return g.op("Add", x, self.product(f"{name}.out", inner, [layer.output_projector]))

    def activated(self, x: str) -> str:
        """Return the activation of `x`."""
        g = self.graph
        if self.activation in ("gelu", "gelu_python"):
            # In plain nodes: every runtime has them, and knows the exact one by their pattern.
            scaled = g.op("Div", x, g.constant(np.sqrt(2.0), "float32"))
            whole = g.op("Add", g.op("Erf", scaled), g.constant(1.0, "float32"))
            return g.op("Mul", g.op("Mul", x, whole), g.constant(0.5, "float32"))
        if self.activation in ("gelu_new", "gelu_pytorch_tanh"):
            return g.op("Gelu", x, approximate="tanh")
        if self.activation == "relu":
            return g.op("Relu", x)
        return g.op("Mul", x, g.op("Sigmoid", x))  # silu, also called swish

    def position_bias(self, stack: str, queries: str, keys: str) -> str:
        """Return the bias `[1, n, Q, K]` of positions `[Q]` and `[K]`.

        It is read from a table of all distances, which the backbone's own function fills.
        """
        g = self.graph
        layers = getattr(self.backbone, f"{stack}_transformer_layers")
        # Of a query at FAR the keys 0 to 2 FAR have the distances -FAR to FAR.
        bias = layers[0].self_attention.compute_bias(1, 2 * FAR + 1, FAR)
        table = numbers(bias)[0, :, 0].T  # [2 FAR + 1, n]
        distance = g.op(
            "Sub",
            g.op("Unsqueeze", keys, g.constant([0])),
            g.op("Unsqueeze", queries, g.constant([1])),
        )
        near = g.op("Clip", distance, g.constant(-FAR), g.constant(FAR))
        rows = g.op("Add", near, g.constant(FAR))
        biases = g.op("Gather", g.weight(f"{stack}.position_bias", table), rows, axis=0)
        by_head = g.op("Transpose", biases, perm=[2, 0, 1])
        return g.op("Unsqueeze", by_head, g.constant([0]))

    def masked(self, visible: str) -> str:
        """Return what is added to scores: 0 where `visible` is 1, else a large negative number."""
        g = self.graph
        hidden = g.op("Sub", g.constant(1.0, "float32"), g.op("Cast", visible, to=1))
        return g.op("Mul", hidden, g.constant(MASKED, "float32"))

    def across(self, mask: str, first: str) -> str:
        """Return what is added to scores over prompt and text, `[B, 1, 1, P + T]`.

        Args:
            mask: of the text, `[B, T]`.
            first: P, a scalar.
        """
        g = self.graph
        before = g.op("Unsqueeze", first, g.constant([0]))
        pads = g.op("Concat", g.constant([0]), before, g.constant([0, 0]), axis=0)
        extended = g.op("Pad", mask, pads, g.constant(1))
        return g.op("Unsqueeze", self.masked(extended), g.constant([1, 2]))

    def positions(self, first: str, count: str) -> str:
        """Return `count` positions from `first` on, scalars both."""
        g = self.graph
        return g.op("Range", first, g.op("Add", first, count), g.constant(1))

    def size(self, x: str, axis: int) -> str:
        """Return the size of an axis, a scalar."""
        g = self.graph
        shape = g.op("Shape", x, start=axis, end=axis + 1)
        return g.op("Squeeze", shape, g.constant([0]))


def numbers(tensor: Any) -> np.ndarray:
    """Return a variable or tensor as float32."""
    return np.asarray(ops.convert_to_numpy(ops.cast(tensor, "float32")))
