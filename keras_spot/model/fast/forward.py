"""The forward pass of `model/plain` with gradients and kernels for one CPU."""

from keras_spot.model.fast import gradients
from keras_spot.model.fast.cached import GrowingDecoder, SingleRowDecoder
from keras_spot.model.plain.forward import PlainT5


class FastT5(PlainT5):
    """`PlainT5` of a frozen backbone: the same numbers, with gradients for the prompt alone.

    Norms, gated GELUs and attention keep only their inputs for the way back and are one pass over
    memory each; decoding keeps a cache that grows. Arguments are those of `PlainT5`.
    """

    def norm(self, layer, x):
        return gradients.norm(layer, x)

    def attend(self, query, key, value, bias, dropout, shared=None):
        if dropout.rate:
            return super().attend(query, key, value, bias, dropout, shared)
        return gradients.attend(query, key, value, bias, shared)

    def feed_forward(self, layer, x):
        projector = layer.input_projector
        kind = gradients.gelu_kind(projector.activation)
        if not (kind and layer.use_gated_activation) or projector.quantization_mode:
            return super().feed_forward(layer, x)
        y = self.norm(layer.layer_norm, x)
        sides = [gradients.product(p, y) for p in (projector, layer.gate_projector)]
        inner = gradients.gated_gelu(kind)(*sides)
        return x + layer.dropout_layer(layer.output_projector(layer.dropout_layer(inner)))

    def log_partition(self, logits, targets, low=0.0):
        return gradients.log_partition(logits, targets, low)

    def cached_decoder(self, states, mask, length):
        decoder = SingleRowDecoder if mask.shape[0] == 1 else GrowingDecoder
        return decoder(self, states, mask, length)
