"""A T5 forward pass from its equations in plain NumPy, slow and easy to check.

Raffel et al. 2020 (arXiv 1910.10683, section 2.1) for the model, Shazeer 2020 (arXiv 2002.05202)
for gated layers. Weights go by their T5X names.
"""

import math

import numpy as np


def bucket(distance, two_way, buckets, max_distance):
    """Return the bucket of one signed distance, key position minus query position."""
    if two_way:
        half = buckets // 2
        return (half if distance > 0 else 0) + bucket(-abs(distance), False, half, max_distance)
    back = max(-distance, 0)
    exact = buckets // 2
    if back < exact:
        return back
    share = math.log(back / exact) / math.log(max_distance / exact)
    return min(exact + int(share * (buckets - exact)), buckets - 1)


def norm(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def relu(x):
    return np.maximum(x, 0)


class T5:
    """A T5 of `weights`, a dictionary of T5X names without `target.`."""

    def __init__(self, weights, activation, max_distance):
        self.weights = {name: np.asarray(w, "float64") for name, w in weights.items()}
        self.activation, self.max_distance = activation, max_distance
        self.heads = self.weights["encoder.relpos_bias.rel_embedding"].shape[0]

    def logits(self, ids, mask, targets, prompt=None):
        """Return `[B, D, V]` for inputs `[B, T]`, their mask and shifted targets `[B, D]`."""
        states, mask = self.encode(ids, mask, prompt)
        return self.decode(targets, states, mask)

    def encode(self, ids, mask, prompt=None):
        x = self.weights["token_embedder.embedding"][ids]
        if prompt is not None:
            front = np.broadcast_to(prompt, (len(x), *prompt.shape))
            x = np.concatenate([front, x], 1)
            mask = np.concatenate([np.ones(front.shape[:2], int), mask], 1)
        bias = self.bias("encoder", x.shape[1]) + self.shut(mask[:, None, None, :] == 0)
        for layer in self.layers("encoder"):
            h = norm(x, self.weights[f"{layer}.pre_attention_layer_norm.scale"])
            x = x + self.attend(f"{layer}.attention", h, h, bias)
            x = x + self.dense(layer, x)
        return norm(x, self.weights["encoder.encoder_norm.scale"]), mask

    def decode(self, targets, states, mask):
        x = self.weights["token_embedder.embedding"][targets]
        steps = np.arange(x.shape[1])
        bias = self.bias("decoder", len(steps)) + self.shut(steps > steps[:, None])
        seen = self.shut(mask[:, None, None, :] == 0)
        for layer in self.layers("decoder"):
            h = norm(x, self.weights[f"{layer}.pre_self_attention_layer_norm.scale"])
            x = x + self.attend(f"{layer}.self_attention", h, h, bias)
            h = norm(x, self.weights[f"{layer}.pre_cross_attention_layer_norm.scale"])
            x = x + self.attend(f"{layer}.encoder_decoder_attention", h, states, seen)
            x = x + self.dense(layer, x)
        x = norm(x, self.weights["decoder.decoder_norm.scale"])
        if "decoder.logits_dense.kernel" in self.weights:
            return x @ self.weights["decoder.logits_dense.kernel"]
        table = self.weights["token_embedder.embedding"]
        return x / math.sqrt(table.shape[1]) @ table.T

    def layers(self, stack):
        names = {name.split(".")[1] for name in self.weights if name.startswith(f"{stack}.layers_")}
        return [f"{stack}.layers_{i}" for i in range(len(names))]

    def bias(self, stack, length):
        table = self.weights[f"{stack}.relpos_bias.rel_embedding"]
        out = np.zeros((self.heads, length, length))
        for query in range(length):
            for key in range(length):
                b = bucket(key - query, stack == "encoder", table.shape[1], self.max_distance)
                out[:, query, key] = table[:, b]
        return out

    @staticmethod
    def shut(where):
        return np.where(where, -np.inf, 0.0)

    def attend(self, name, x, memory, bias):
        def heads(kind, states):
            kernel = self.weights[f"{name}.{kind}.kernel"]
            out = states @ kernel.reshape(len(kernel), -1)
            return out.reshape(*out.shape[:2], self.heads, -1).transpose(0, 2, 1, 3)

        query, key, value = heads("query", x), heads("key", memory), heads("value", memory)
        scores = query @ key.transpose(0, 1, 3, 2) + bias
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = (weights @ value).transpose(0, 2, 1, 3).reshape(*x.shape[:2], -1)
        out = self.weights[f"{name}.out.kernel"]
        return mixed @ out.reshape(-1, out.shape[-1])

    def dense(self, layer, x):
        x = norm(x, self.weights[f"{layer}.pre_mlp_layer_norm.scale"])
        mlp = {
            n.split(".")[-2]: w for n, w in self.weights.items() if n.startswith(f"{layer}.mlp.")
        }
        if "wi" in mlp:
            return self.activation(x @ mlp["wi"]) @ mlp["wo"]
        return (self.activation(x @ mlp["wi_0"]) * (x @ mlp["wi_1"])) @ mlp["wo"]
