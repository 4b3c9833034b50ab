"""Runs, banks, transfer, scores, commands and exports with JAX."""

import json

import jax
import keras
import numpy as np
import pytest

import keras_spot as package
from keras_spot import Recipe, backbones

TEXTS = ["movies sentence: a fine film", "movies sentence: a dull and tedious movie"]
RECIPE = Recipe(prompt_length=5, batch_size=8, learning_rate=1.0, checkpoint_every=2)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """The folder of a run of six steps."""
    folder = tmp_path_factory.mktemp("run") / "movies"
    options = {"recipe": RECIPE, "validation_limit": 8, "method": "rank", "progress": None}
    package.train("synthetic/movies", folder, steps=6, **options)
    return folder


def test_a_run_leaves_what_it_does_with_tensorflow(run_dir):
    assert (run_dir / "state.npz").is_file()
    assert list((run_dir / "tensorboard").iterdir())
    record = json.loads((run_dir / "run.json").read_text())
    assert record["devices"] == "one_device"
    assert record["kernels_used"] == "plain"
    assert record["backend"] == "jax"
    assert "jax" in record["versions"]
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert all(0 <= line["score"] <= 100 for line in lines)


def test_a_continued_run_is_the_uninterrupted_one(tmp_path):
    options = {"recipe": RECIPE, "validation_split": "", "progress": None}
    whole = package.train("synthetic/movies", tmp_path / "whole", steps=4, **options)

    class Stop(Exception):
        pass

    def stop(step, total, logs):
        if step == 3:
            raise Stop

    options["progress"] = stop
    with pytest.raises(Stop):
        package.train("synthetic/movies", tmp_path / "halves", steps=4, **options)
    options["progress"] = None
    rest = package.train("synthetic/movies", tmp_path / "halves", steps=4, **options)
    np.testing.assert_array_equal(rest.model.prompt, whole.model.prompt)


def test_a_bank_trains_and_answers(tmp_path):
    names = ["synthetic/movies", "synthetic/topic"]
    options = {"recipe": RECIPE, "validation_split": "", "progress": None}
    bank = package.train_bank(names, tmp_path, steps=2, **options)
    answers = bank.model.generate(TEXTS, prompt=names, max_length=4)
    assert [type(answer) for answer in answers] == [str, str]


def test_a_target_starts_from_similar_sources(tmp_path, run_dir):
    library = package.PromptLibrary(tmp_path / "library")
    options = {"recipe": RECIPE, "validation_split": "", "progress": None}
    source = package.train("synthetic/topic", tmp_path / "source", steps=2, **options)
    library.add_run(source.run_dir, embedding_step=2)
    run = package.Run(task="synthetic/movies", recipe=RECIPE, steps=2, validation_split="")
    transferred = package.retrieval.retrieve(
        "average", run, tmp_path / "target", library, k=1, embedding_steps=2, progress=None
    )
    assert transferred.sources == ["synthetic/topic"]


def test_few_lengths_are_compiled(run_dir):
    model = package.build("tiny", run_dir)
    tokenizer = model.preprocessor.tokenizer
    data = package.load_task("synthetic/movies", "train", tokenizer)
    assert len({batch[0]["encoder_token_ids"].shape[1] for batch in data.take(40)}) <= 2
    with jax_compiles() as compiled:
        model.ranker.log_likelihoods(TEXTS + ["a film " * n for n in range(1, 9)], ["good"], 4)
        model.generate(TEXTS[:1], max_length=3)
        answer = model.generate(TEXTS[1:], max_length=3, batch_size=32)
        with jax.enable_x64(True):  # as JAX_ENABLE_X64 does
            assert model.generate(TEXTS[1:], max_length=3, batch_size=32) == answer
    assert len(compiled) <= 3


def jax_compiles():
    """Return a context that lists what JAX compiles of rankings and generations."""
    import contextlib
    import logging

    class Names(logging.Handler):
        def emit(self, record):
            if record.getMessage().startswith("Compiling jit(compiled)"):
                names.append(record.getMessage())

    names: list[str] = []

    @contextlib.contextmanager
    def context():
        logger, handler = logging.getLogger("jax._src.interpreters.pxla"), Names()
        logger.addHandler(handler)
        try:
            with jax.log_compiles():
                yield names
        finally:
            logger.removeHandler(handler)

    return context()


def test_the_commands(run_dir, keras_spot, tmp_path):
    code, out, err = keras_spot("evaluate", "--task", "synthetic/movies", "--prompt", run_dir,
                                "--method", "rank", "--limit", "8")  # fmt: skip
    assert code == 0, err
    code, out, err = keras_spot("predict", "--prompt", run_dir, TEXTS[0])
    assert (code, len(out.splitlines())) == (0, 1), err
    code, out, err = keras_spot("train", "--task", "synthetic/movies", "--run-dir", tmp_path / "r",
                                "--devices", "model:3", "--steps", "1")  # fmt: skip
    message = "error: `devices` must suit the 1 devices there are. Received: 'model:3'\n"
    assert code == 2
    assert err.endswith(message)
    for command in (["evaluate"], ["predict", TEXTS[0]]):
        code, out, err = keras_spot(*command, "--prompt", run_dir, "--devices", "model:3")
        assert (code, out) == (2, "")
        assert err.endswith(message)


def test_tensorflow_exports_the_model_in_a_process_of_its_own(tmp_path):
    import tensorflow as tf

    model = package.build("tiny", prompt_length=5, quantize="int8")
    model.export(tmp_path / "served", max_length=4)
    serve = tf.saved_model.load(tmp_path / "served").signatures["serving_default"]
    served = serve(text=tf.constant(TEXTS))["outputs"].numpy()
    assert [answer.decode() for answer in served] == model.generate(TEXTS, max_length=4)


def test_strategies_of_tensorflow_are_refused():
    import tensorflow as tf

    with pytest.raises(ValueError, match=r"^`devices` must not be a tf.distribute strategy"):
        package.devices(tf.distribute.get_strategy())
    assert package.devices("mirrored").name == "one_device"
    assert keras.config.backend() == "jax"
    assert backbones.quantization(package.build("tiny").backbone) is None
