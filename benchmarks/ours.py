"""The worker that runs keras_spot: `python -m benchmarks.ours`, requests as in `protocol`."""

import dataclasses
import gc
import time
from typing import Any

from benchmarks import process, products, workload
from benchmarks.protocol import Skip, serve
from keras_spot.cli.options import prepare_tensorflow

THREADS = process.threads()
prepare_tensorflow()

import keras  # noqa: E402  after the cores are chosen
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import keras_spot  # noqa: E402
from keras_spot.model.plain.attention import absorbed_is_cheaper  # noqa: E402
from keras_spot.serving.engines import engine_of, open_engine  # noqa: E402

POLICIES = {"float32": "float32", "bfloat16": "bfloat16"}
models: dict[str, Any] = {}


def hello() -> dict[str, str]:
    """Return the versions."""
    return {
        "keras_spot": keras_spot.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }


def gemm(dtype: str, size: int) -> float:
    """Return TensorFlow's GFLOP/s of a product of square matrices."""
    a = tf.cast(tf.random.normal((size, size)), dtype)
    return process.gemm_rate(lambda: tf.matmul(a, a).shape, size)


def load(
    backbone: str,
    prompt: list[int],
    precision: str = "float32",
    key: str = "model",
    tokenizer: str | None = None,
    xla: bool = False,
    without: str | None = None,
    **options: Any,
) -> float:
    """Build a model under `key`, and return the seconds that took.

    Args:
        backbone: folder.
        prompt: its length and width.
        precision: `"float32"` or `"bfloat16"`.
        tokenizer: SentencePiece file.
        xla: compile with `jit_compile=True`.
        without: a method of `FastT5` that is left to `PlainT5`.
        **options: of `keras_spot.build`; one that this version does not have skips the case.
    """
    began = time.perf_counter()
    try:
        models[key] = keras_spot.build(
            backbone,
            workload.prompt(*prompt),
            recipe=keras_spot.Recipe(z_loss=0.0),
            dtype=POLICIES[precision],
            tokenizer=tokenizer,
            **options,
        )
    except TypeError as error:
        raise Skip(str(error)) from None
    if xla:
        models[key].compile(jit_compile=True)
    if without:
        models[key].forward_pass.leave_to_plain(without)
    return time.perf_counter() - began


def free() -> None:
    """Forget all models."""
    models.clear()
    gc.collect()


class _Timed(keras.callbacks.Callback):
    """Laps of the training steps, as `fit` makes them, and the first step's loss."""

    def __init__(self) -> None:
        super().__init__()
        self.laps, self.loss = process.Laps(), None

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._lap = self.laps.lap()
        self._lap.__enter__()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._lap.__exit__(None, None, None)
        if self.loss is None:
            self.loss = float(logs["loss"])


def step(
    rows: int,
    tokens: int,
    targets: int,
    count: int,
    key: str = "model",
    prompts: int | None = None,
    fresh: bool = False,
) -> dict[str, Any]:
    """Make training steps on one batch; return their laps and the first one's loss.

    Args:
        prompts: K, deals the rows out to the prompts of a bank.
        fresh: compile anew, so that this batch's shapes are static.
    """
    model = models[key]
    inputs, y = workload.batch(rows, tokens, targets, model.backbone.vocabulary_size)
    x = _inputs(inputs, np.pad(y[:, :-1], [[0, 0], [1, 0]]), np.ones_like(y))
    if prompts:
        x["prompt_index"] = np.repeat(np.arange(prompts, dtype="int32"), rows // prompts)
    data = tf.data.Dataset.from_tensors((x, y, np.ones(y.shape, "float32"))).repeat(count)
    if fresh:
        model.make_train_function(force=True)
    timed = _Timed()
    model.fit(data, verbose=0, callbacks=[timed])
    return {**timed.laps.samples, "loss": [timed.loss]}


def generate(rows: int, tokens: int, length: int, count: int, key: str = "model") -> dict[str, Any]:
    """Decode `length` tokens greedily, `count` times; return the laps and the ids."""
    model = models[key]
    inputs, _ = workload.batch(rows, tokens, 1, model.backbone.vocabulary_size)
    start = np.zeros((rows, length + 1), "int32")
    given = start.copy()
    given[:, 0] = 1
    x = _inputs(inputs, start, given)
    laps = process.Laps()
    for _ in range(count):
        with laps.lap():
            answers = model.generate(dict(x), stop_token_ids=None)
    return {**laps.samples, "ids": answers["decoder_token_ids"][:, 1:].tolist()}


def products_alone(
    shape: dict[str, int], prompt: int, rows: int, tokens: int, length: int, dtype: str
) -> dict[str, float]:
    """Return the seconds that a generation's products take alone, added up by part.

    Args:
        shape: fields of `workload.Shape`.
        prompt: P.
        rows: B, more than one.
        tokens: T.
        length: tokens to generate.
        dtype: of the operands.
    """
    sizes = workload.Shape(**shape)
    absorbed = absorbed_is_cheaper(
        length + 1,  # with the start token
        prompt + tokens,
        sizes.width,
        sizes.heads,
        sizes.head_width,
    )
    totals: dict[str, float] = {}
    for product in products.generation(sizes, prompt, rows, tokens, length, absorbed):
        seconds = product.count * products.alone(product, dtype)
        totals[product.part] = totals.get(product.part, 0.0) + seconds
    return totals


def _inputs(inputs: np.ndarray, targets: np.ndarray, given: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "encoder_token_ids": inputs,
        "encoder_padding_mask": np.ones_like(inputs),
        "decoder_token_ids": targets,
        "decoder_padding_mask": given,
    }


def export_model(path: str, length: int, key: str = "model", **options: Any) -> None:
    """Write a SavedModel, or by `format=` another, that answers with at most `length` tokens."""
    try:
        models[key].export(path, max_length=length, **options)
    except keras_spot.errors.MissingExtra as error:
        raise Skip(str(error)) from None


def answer(
    path: str, rows: int, tokens: int, length: int, pieces: int, count: int
) -> dict[str, Any]:
    """Let an exported model's engine decode `length` tokens, `count` times.

    Args:
        pieces: input ids are below this number.
    """
    ids, _ = workload.batch(rows, tokens, 1, pieces)
    if engine_of(path) == "tensorflow":
        if path not in models:
            models[path] = tf.saved_model.load(path)
        signature = models[path].signatures["generate_ids"]
        given = {"encoder_token_ids": ids, "encoder_padding_mask": np.ones_like(ids)}
        given = {name: tf.constant(value) for name, value in given.items()}

        def work() -> list[list[int]]:
            return signature(**given)["output_ids"].numpy().tolist()
    else:
        if path not in models:
            models[path] = open_engine(path)
        engine = models[path]
        engine.batch_size = rows
        prompts = list(engine.cards) * rows

        def work() -> list[list[int]]:
            return engine.answer_rows(ids.tolist(), prompts, [length] * rows)

    answers: list[list[list[int]]] = []
    samples = process.repeated(lambda: answers.append(work()), count)
    return {**samples, "ids": answers[0]}


def serve_text(path: str, words: int, count: int) -> dict[str, list[float]]:
    """Load a SavedModel and let it answer one text of that many words, `count` times."""
    if path not in models:
        models[path] = tf.saved_model.load(path)
    answer = models[path].signatures["serving_default"]
    text = tf.constant([" ".join(["film"] * words)])
    return process.repeated(lambda: answer(text=text)["outputs"].numpy(), count)


def _task_data(
    key: str, task: str, data_dir: str, examples: int, rows: int, split: str = "train"
) -> Any:
    tokenizer = models[key].preprocessor.tokenizer
    _prepare(task, data_dir)
    return keras_spot.load_task(task, split, tokenizer, rows, data_dir=data_dir, limit=examples)


def _prepare(task: str, data_dir: str) -> None:
    from keras_spot import data

    if task.startswith("synthetic/"):
        data.prepare(task, data_dir)


def export(
    task: str,
    data_dir: str,
    examples: int,
    rows: int,
    path: str,
    split: str = "train",
    key: str = "model",
) -> dict[str, int]:
    """Write the ids of a split's examples to an .npz file for the peer.

    Returns:
        How many there are, and how many positions of input our own batches of `rows` have.
    """
    inputs: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    positions = 0
    for x, y, weight in _task_data(key, task, data_dir, examples, rows, split):
        mask = x["encoder_padding_mask"].numpy().astype(bool)
        positions += mask.size
        for ids, seen, target, counts in zip(
            x["encoder_token_ids"].numpy(), mask, y.numpy(), weight.numpy().astype(bool)
        ):
            if seen.any():
                inputs.append(ids[seen])
                targets.append(target[counts])
    np.savez(
        path,
        inputs=np.concatenate(inputs),
        input_lengths=[len(row) for row in inputs],
        targets=np.concatenate(targets),
        target_lengths=[len(row) for row in targets],
    )
    return {"examples": len(inputs), "positions": positions}


def warm_up(
    task: str, data_dir: str, examples: int, rows: int, key: str = "model"
) -> dict[str, Any]:
    """Compile for the lengths of an epoch; return the lap and how many there are."""
    data = _task_data(key, task, data_dir, examples, rows)
    lengths: list[int] = []
    samples = process.repeated(lambda: lengths.append(keras_spot.warm_up(models[key], data)), 1)
    return {**samples, "lengths": lengths}


def epoch(
    task: str, data_dir: str, examples: int, rows: int, key: str = "model"
) -> dict[str, list[float]]:
    """Train an epoch with `fit`: reading, tokenising and bucketing included."""
    data = _task_data(key, task, data_dir, examples, rows)
    return process.repeated(lambda: models[key].fit(data, verbose=0), 1)


def score(
    task: str,
    split: str,
    data_dir: str,
    method: str,
    limit: int | None,
    target_length: int | None = None,
    key: str = "model",
) -> dict[str, Any]:
    """Evaluate a split once; return the lap and the number of examples.

    Args:
        target_length: positions to decode at most. Default: what the longest label needs.
    """
    model = models[key]
    _prepare(task, data_dir)
    record = keras_spot.tasks.get(task)
    if target_length is None:
        target_length = max(len(row) for row in model.token_rows(list(record.labels)))
    record = dataclasses.replace(record, max_target_length=target_length)
    scored = []

    def work() -> None:
        scored.append(
            keras_spot.evaluate(model, record, split, method=method, data_dir=data_dir, limit=limit)
        )

    samples = process.repeated(work, 1)
    return {**samples, "examples": [scored[0].examples], "positions": [target_length]}


FUNCTIONS = (hello, gemm, load, free, step, generate, export, warm_up, epoch, score)
FUNCTIONS += (export_model, serve_text, answer, products_alone)
FUNCTIONS += (process.memory, process.forget_peak)

if __name__ == "__main__":
    serve({function.__name__: function for function in FUNCTIONS})
