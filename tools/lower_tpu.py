"""Does TensorFlow's own bridge lower a training step and answers for a TPU? No TPU is needed.

    python -m tools.lower_tpu                     # where tensorflow-tpu is installed; else it skips
    python -m tools.lower_tpu --size small --attention full causal prompt

Lowered are the model's own forward pass, loss, gradient and optimiser, greedy decoding, and the
scores of a label, with the variables passed as tensors: `experimental_get_compiler_ir` takes no
variables. The text must hold no float64 and no call of the host.
"""

import argparse
import collections
import importlib.metadata
import os
import re
import time
from collections.abc import Sequence
from typing import Any

_ROWS, _TOKENS, _TARGETS, _PROMPT = 8, 64, 8, 20
_NO_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
_HOST = re.compile(r'custom_call @"?(xla_python\w*|\w*[cC]allback\w*|\w*[hH]ost\w*)')


def lowered(function: Any, *arguments: Any) -> str:
    """Return the StableHLO of a function of tensors for platform TPU."""
    import tensorflow as tf

    compiled = tf.function(function, jit_compile=True, autograph=False)
    text = compiled.experimental_get_compiler_ir(*arguments)(stage="stablehlo", platform_name="TPU")
    return text if isinstance(text, str) else text.decode()


def step(model: Any) -> Any:
    """Return a training step of `(trainable, others, optimizer's, x, y, weight)`."""
    import keras
    import tensorflow as tf

    optimizer = model.optimizer

    def run(trainable: Any, others: Any, moments: Any, x: Any, y: Any, weight: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(trainable)
            logits, _ = model.stateless_call(trainable, others, x, training=True)
            loss = model.loss(y, logits, sample_weight=weight)
        gradients = tape.gradient(loss, trainable)
        state = [*zip(optimizer.variables, moments), *zip(model.trainable_variables, trainable)]
        with keras.StatelessScope(state_mapping=state) as scope:
            for gradient, variable in zip(gradients, model.trainable_variables):
                optimizer.update_step(gradient, variable, optimizer.learning_rate)
            optimizer.iterations.assign_add(1)
        updated = [*model.trainable_variables, *optimizer.variables]
        return loss, [scope.get_current_value(variable) for variable in updated]

    # Keras keeps TensorFlow's optimisers for variables; this one is told of tensors.
    optimizer.assign = lambda variable, value: variable.assign(value)
    paths = [variable.path for variable in model.trainable_variables]
    optimizer._get_variable_index = lambda variable: paths.index(variable.path)
    return run


def answer(model: Any) -> Any:
    """Return greedy decoding of `(trainable, others, batch)`."""
    import keras

    def run(trainable: Any, others: Any, batch: Any) -> Any:
        state = [
            *zip(model.trainable_variables, trainable),
            *zip(model.non_trainable_variables, others),
        ]
        with keras.StatelessScope(state_mapping=state):
            return model.generate_step(batch, stop_token_ids=(1,))

    return run


def scores(model: Any) -> Any:
    """Return the log-likelihoods of a label `[1, D]` of `(trainable, others, batch, label)`."""
    import keras

    def run(trainable: Any, others: Any, batch: Any, label: Any) -> Any:
        state = [
            *zip(model.trainable_variables, trainable),
            *zip(model.non_trainable_variables, others),
        ]
        with keras.StatelessScope(state_mapping=state):
            return model.ranker.of_batch(list(batch.values())[:2], [label])

    return run


def report(name: str, text: str, seconds: float) -> bool:
    """Print a line of what was lowered; return whether a TPU can take it."""
    operations = collections.Counter(re.findall(r"\bstablehlo\.([a-z_0-9]+)", text))
    wrong = sorted(
        set(_HOST.findall(text)) | ({"float64"} if re.search(r"[x<]f64\b", text) else set())
    )
    commonest = ", ".join(f"{count} {operation}" for operation, count in operations.most_common(4))
    state = f"has {', '.join(sorted(wrong))}" if wrong else "ok"
    print(f"{name}: {state}; {sum(operations.values())} operations ({commonest}), {seconds:.0f} s")
    return not wrong


def main(words: Sequence[str] | None = None) -> int:
    """Lower what was asked for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tools.lower_tpu")
    parser.add_argument("--size", default="small", choices=("toy", "small", "base"))
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--attention", nargs="+", default=["full", "causal", "prompt"])
    asked = parser.parse_args(words)
    try:
        version = importlib.metadata.version("tensorflow-tpu")
    except importlib.metadata.PackageNotFoundError:
        print("skipped: needs tensorflow-tpu, whose lines to install are in docs/scale.md")
        return 0
    os.environ.update({"KERAS_BACKEND": "tensorflow", **_NO_TPU})

    import tensorflow as tf

    from keras_spot import PromptedT5
    from keras_spot.backbones.converters.architecture import Architecture
    from keras_spot.model.plan import architecture

    print(f"tensorflow-tpu {version}: T5 {asked.size}, {asked.dtype}, for platform TPU")
    if asked.size == "toy":
        shape = Architecture(512, 64, 2, 2, 2, 32, 128, "gelu_new", gated=True, tied=False)
    else:
        shape = architecture(asked.size)
    ones = tf.ones((_ROWS, _TOKENS), "int32")
    x = {"encoder_token_ids": ones, "encoder_padding_mask": ones}
    y = tf.ones((_ROWS, _TARGETS), "int32")
    x |= {"decoder_token_ids": y, "decoder_padding_mask": y}
    start = tf.one_hot(tf.zeros(_ROWS, "int32"), _TARGETS, dtype="int32")
    batch = {**x, "decoder_token_ids": tf.zeros_like(y), "decoder_padding_mask": start}
    fits = True
    for attention in asked.attention:
        model = PromptedT5(
            shape.build(asked.dtype), prompt_length=_PROMPT, prompt_attention=attention
        )
        model.compile(jit_compile=False)
        model.optimizer.build(model.trainable_variables)
        trainable, others, moments = (
            [tf.convert_to_tensor(variable.value) for variable in variables]
            for variables in (
                model.trainable_variables,
                model.non_trainable_variables,
                model.optimizer.variables,
            )
        )
        for name, function, arguments in (
            ("step", step(model), (trainable, others, moments, x, y, tf.ones(y.shape))),
            ("generate", answer(model), (trainable, others, batch)),
            ("rank", scores(model), (trainable, others, batch, y[:1])),
        ):
            began = time.monotonic()
            text = lowered(function, *arguments)
            fits &= report(f"{name}, {attention}", text, time.monotonic() - began)
    return 0 if fits else 1


if __name__ == "__main__":
    raise SystemExit(main())
