"""The input pipeline against plain loops: content, shapes, order, resume, mixtures, errors."""

import collections
import contextlib
import dataclasses
import itertools
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from keras_spot import data, tasks
from keras_spot.base import remote
from keras_spot.data import batches, load, position, sources
from keras_spot.tasks.synthetic_data import CONFIGS, SIZES

SYNTHETIC = [f"synthetic/{config}" for config in CONFIGS]
REAL = (
    "glue/cola", "glue/sst2", "glue/mrpc", "glue/stsb", "glue/rte", "glue/wnli", "glue/mnli",
    "super_glue/boolq", "super_glue/cb", "super_glue/copa", "super_glue/record", "super_glue/rte",
    "super_glue/wic", "super_glue/wsc", "super_glue/wsc.fixed", "snli", "mr", "subj",
)  # fmt: skip


cut = pytest.mark.filterwarnings("ignore::keras_spot.data.DataWarning")


def exactly(message):
    return f"^{re.escape(message)}$"


def take(dataset, number=None):
    return list(itertools.islice(dataset.as_numpy_iterator(), number))


def assert_same(actual, expected):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        for name in a[0]:
            np.testing.assert_array_equal(a[0][name], b[0][name])
        np.testing.assert_array_equal(a[1], b[1])
        np.testing.assert_array_equal(a[2], b[2])


def contents(actual):
    """Return the multiset of rows: (input ids, target ids), padding rows left out."""
    rows = collections.Counter()
    for x, y, weight in actual:
        for row in range(len(y)):
            if weight[row].any():
                ids = x["encoder_token_ids"][row]
                rows[tuple(ids[ids != 0]), tuple(y[row][y[row] != 0])] += 1
    return rows


def contents_of(
    task, split, tokenizer, data_dir, training=False, input_length=512, target_length=8
):
    """Return the multiset of rows that a plain loop over the rows gives."""
    task = tasks.get(task)
    rows = enumerate(sources.open_rows(task, split, data_dir)())
    examples = [e for index, row in rows for e in task.examples(row, index, training)]
    inputs = tokenizer([example.input for example in examples])
    targets = tokenizer([example.target for example in examples])
    return collections.Counter(
        ((*ids[: input_length - 1], 1), (*target[: target_length - 1], 1))
        for ids, target in zip(inputs, targets, strict=True)
    )


# === Content and shapes ===


@pytest.mark.parametrize("name", SYNTHETIC)
def test_batches_hold_every_row_once(name, tokenizer, data_dir):
    task = tasks.get(name)
    for split in ("train", "validation"):
        dataset = data.load_task(name, split, tokenizer, 32, data_dir=data_dir)
        actual = take(dataset)
        expected = contents_of(
            name, split, tokenizer, data_dir, target_length=task.max_target_length
        )
        assert contents(actual) == expected
        assert expected.total() == SIZES[split]
        assert len(actual) == -(-SIZES[split] // 32)  # the leftovers share their batches


def test_a_batch_by_definition(tokenizer, tmp_path):
    texts = ["good", "good good film", "bad"]
    path = tmp_path / "train.jsonl"
    path.write_text(
        "".join(json.dumps({"t": t, "label": i % 2}) + "\n" for i, t in enumerate(texts))
    )
    task = tasks.Task("mine", None, "{t}", labels=("bad", "good"), files={"train": str(path)})
    task = dataclasses.replace(task, label_indices=True)
    dataset = data.load_task(
        task, "train", tokenizer, 4, shuffle=False, buckets=(), input_length=12, target_length=6
    )
    ((x, y, weight),) = take(dataset)
    width = max(len(tokenizer(label)) for label in task.labels) + 1  # not 6
    for row, text in enumerate([*texts, None]):
        ids = [] if text is None else [*tokenizer(text), 1]
        target = [] if text is None else [*tokenizer(("bad", "good")[row % 2]), 1]
        shifted = [0, *target[:-1]] if target else []
        assert x["encoder_token_ids"][row].tolist() == ids + [0] * (12 - len(ids))
        assert x["encoder_padding_mask"][row].tolist() == [1] * len(ids) + [0] * (12 - len(ids))
        assert x["decoder_token_ids"][row].tolist() == shifted + [0] * (width - len(shifted))
        assert x["decoder_padding_mask"][row].tolist() == weight[row].tolist()
        assert y[row].tolist() == target + [0] * (width - len(target))
        assert weight[row].tolist() == [1] * len(target) + [0] * (width - len(target))
    assert {array.dtype.name for array in (*x.values(), y)} == {"int32"}
    assert weight.dtype == np.float32


def test_every_row_is_in_the_shortest_bucket_that_holds_it(tokenizer, data_dir):
    lengths = (10, 20, 30, 64)
    dataset = data.load_task(
        "synthetic/movies",
        "train",
        tokenizer,
        16,
        data_dir=data_dir,
        buckets=lengths[:3],
        input_length=64,
        drop_remainder=True,
    )
    labels = tasks.get("synthetic/movies").labels
    longest = max(len(tokenizer(label)) for label in labels) + 1
    seen = set()
    for x, y, _ in take(dataset):
        batch, length = x["encoder_token_ids"].shape
        assert (batch, y.shape) == (16, (16, longest))
        assert length in lengths
        seen.add(length)
        for used in x["encoder_padding_mask"].sum(axis=1):
            assert length == min(known for known in lengths if known >= used)
    assert len(seen) > 2


def test_static_shapes(tokenizer, data_dir):
    longest = max(len(tokenizer(label)) for label in tasks.get("synthetic/topic").labels) + 1
    several = data.load_task("synthetic/topic", "train", tokenizer, 8, data_dir=data_dir)
    x, y, weight = several.element_spec
    assert x["encoder_token_ids"].shape.as_list() == [8, None]
    assert y.shape.as_list() == weight.shape.as_list() == [8, longest]
    one = data.load_task(
        "synthetic/topic", "train", tokenizer, 8, data_dir=data_dir, buckets=(), input_length=96
    )
    assert one.element_spec[0]["encoder_token_ids"].shape.as_list() == [8, 96]
    assert contents(take(one)) == contents(take(several))


def test_long_texts_are_cut_before_their_end(tokenizer, tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("text,answer\n" + "word " * 20_000 + "," + "answer " * 50 + "\n")
    task = tasks.Task("long", None, "{text}", "{answer}", files={"train": str(path)})
    with pytest.warns(data.DataWarning, match="long train: 1 of 1 inputs .* cut .* 1 of 1 targets"):
        dataset = data.load_task(task, "train", tokenizer, 1, input_length=40, target_length=5)
    ((x, y, weight),) = take(dataset)
    assert x["encoder_token_ids"][0].tolist() == [*tokenizer("word " * 40)[:39], 1]
    assert y[0].tolist() == [*tokenizer("answer " * 50)[:4], 1]
    assert weight.tolist() == [[1] * 5]


def test_sentinel_stands_in_front(tokenizer, tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("text,label\ngood film,good\n")
    task = tasks.Task(
        "mine", None, "{text}", labels=("bad", "good"), files={"train": str(path)}, sentinel=6
    )
    sentinel = tokenizer.vocabulary_size() + 93  # <extra_id_6> of 100 behind the pieces
    ids = [sentinel, *tokenizer("good film"), 1]
    for length in (len(ids), len(ids) - 1):
        with pytest.warns(data.DataWarning) if length < len(ids) else contextlib.nullcontext():
            dataset = data.load_task(task, "train", tokenizer, 1, buckets=(), input_length=length)
        ((x, _, _),) = take(dataset)
        assert x["encoder_token_ids"][0].tolist() == [*ids[: length - 1], 1]


def test_functions_that_run_eagerly_tokenise_alike(tokenizer):
    """`tf.config.run_functions_eagerly`, the usual way to debug."""
    import tensorflow as tf

    examples = [tasks.Example("a fine film", "good", 0), tasks.Example("", "bad", 1)]
    for sentinel in (None, 6):
        encode = batches.encoder(tokenizer, 8, 4, sentinel)
        compiled = encode(examples)
        tf.config.run_functions_eagerly(True)
        try:
            eager = encode(examples)
        finally:
            tf.config.run_functions_eagerly(False)
        for one, other in zip(compiled, eager):
            np.testing.assert_array_equal(one.input_ids, other.input_ids)
            np.testing.assert_array_equal(one.target_ids, other.target_ids)


def test_leftovers_drop_or_share_batches():
    def row(length):
        return batches.Encoded(np.arange(2, 2 + length), np.array([1]))

    rows = [row(length) for length in (3, 9, 3, 4, 9, 3, 9, 9)]
    kept = list(batches.bucketed(rows, (4, 10), 3, 2))
    assert [batch.input_ids.shape for batch in kept] == [(3, 4), (3, 10), (3, 10)]
    last = kept[-1][0]
    assert (last != 0).sum(axis=1).tolist() == [9, 3, 0]
    dropped = list(batches.bucketed(rows, (4, 10), 3, 2, drop_remainder=True))
    assert [batch.input_ids.shape for batch in dropped] == [(3, 4), (3, 10)]


# === Order ===


def test_equal_arguments_give_equal_batches(tokenizer, data_dir):
    def load(**arguments):
        return data.load_task(
            "synthetic/movies", "train[:300]", tokenizer, 16, data_dir=data_dir, **arguments
        )

    first = take(load())
    assert_same(take(load()), first)
    other = take(load(seed=1))
    assert contents(other) == contents(first)
    assert any((a[1] != b[1]).any() for a, b in zip(first, other, strict=True))


def test_every_iteration_is_the_next_epoch(tokenizer, data_dir):
    dataset = data.load_task(
        "synthetic/movies", "train[:100]", tokenizer, 100, data_dir=data_dir, buckets=()
    )
    one, two = take(dataset), take(dataset)
    assert contents(one) == contents(two)
    assert (one[0][0]["encoder_token_ids"] != two[0][0]["encoder_token_ids"]).any()


def test_validation_keeps_the_stored_order(tokenizer, data_dir):
    dataset = data.load_task(
        "synthetic/movies", "validation", tokenizer, 50, data_dir=data_dir, buckets=()
    )
    texts = [e.input for e in data.load_examples("synthetic/movies", data_dir=data_dir)]
    ids = [row for x, _, _ in take(dataset) for row in x["encoder_token_ids"]]
    assert len(ids) == len(texts) == 500
    for row, text in zip(ids, texts, strict=True):
        assert row[row != 0].tolist() == [*tokenizer(text), 1]


def test_shuffled_is_a_permutation_that_mixes():
    items = list(range(1000))
    results = list(batches.shuffled(items, "7", buffer_size=100))
    assert sorted(results) == items
    assert results == list(batches.shuffled(items, "7", buffer_size=100))
    assert results != list(batches.shuffled(items, "8", buffer_size=100))
    assert all(item < place + 100 for place, item in enumerate(results))  # no look-ahead beyond


def test_endless_epochs_carry_the_buckets_over(tokenizer, data_dir):
    dataset = data.load_task(
        "synthetic/topic", "train[:90]", tokenizer, 32, data_dir=data_dir, repeat=True
    )
    actual = take(dataset, 90)  # 32 epochs
    assert all(weight.any(axis=1).all() for _, _, weight in actual)
    counts = contents(actual)
    assert len(counts) == 90
    assert max(counts.values()) - min(counts.values()) <= 3
    assert dataset.cardinality().numpy() == -1  # endless, as Keras knows it


@pytest.mark.parametrize("start_step", [0, 1, 7, 40, 111, 250])
def test_start_step_goes_on_as_if_uninterrupted(start_step, tokenizer, data_dir):
    arguments = {"batch_size": 16, "data_dir": data_dir, "repeat": True, "seed": 3}
    load = lambda **more: data.load_task(  # noqa: E731
        "synthetic/movies", "train[:333]", tokenizer, **arguments, **more
    )
    resumed = take(load(start_step=start_step), 30)
    whole = take(load(), start_step + 30)
    assert_same(resumed, whole[start_step:])


@pytest.mark.parametrize("seed", range(20))
def test_seek_against_a_plain_run(seed):
    rng = np.random.default_rng(seed)
    lengths, batch_size = (2, 4, 8), int(rng.integers(1, 9))
    sizes = rng.integers(1, 9, size=rng.integers(1, 60))
    ids = [np.full(size, place + 1) for place, size in enumerate(sizes)]
    pool = [batches.Encoded(row, np.array([1])) for row in ids]

    def epoch(number):
        return batches.shuffled(pool, f"{seed} {number}", buffer_size=7)

    def run(first, waiting, skip):
        rows = itertools.chain.from_iterable(map(epoch, itertools.count(first)))
        return itertools.islice(
            batches.bucketed(rows, lengths, batch_size, 2, waiting=waiting), skip, None
        )

    for step in (0, 1, 5, 50, 333, 1000):
        first, waiting, skip = position.seek(epoch(0), lengths, batch_size, step)
        plain = itertools.islice(run(0, {}, step), 20)
        resumed = itertools.islice(run(first, waiting, skip), 20)
        for a, b in zip(resumed, plain, strict=True):
            np.testing.assert_array_equal(a.input_ids, b.input_ids)
        if step == 1000:
            assert (
                skip < 1000
                or min(collections.Counter(batches.fitting(lengths, row) for row in pool).values())
                * 1000
                < batch_size**2 * 60
            )


# === Mixtures ===


def test_mixture_draws_by_its_rates(tokenizer, data_dir):
    weights = {"synthetic/movies": 6.0, "synthetic/topic": 3.0, "synthetic/paraphrase": 1.0}
    mixture = tasks.Mixture("mine", tuple(weights), weights=weights)
    load = lambda **more: data.load_mixture(  # noqa: E731
        mixture, "train", tokenizer, 32, data_dir=data_dir, **more
    )
    actual = take(load(), 40)
    starts = {tokenizer(name.partition("/")[2] + " ")[0]: name for name in weights}
    assert len(starts) == 3
    counts = collections.Counter()
    for x, _, _ in actual:
        for row in x["encoder_token_ids"]:
            counts[starts[row[0]]] += 1
    for name, weight in weights.items():
        assert counts[name] / counts.total() == pytest.approx(weight / 10, abs=0.04)
    assert_same(take(load(), 5), actual[:5])
    assert_same(take(load(start_step=3), 5), actual[3:8])
    assert any((a[1] != b[1]).any() for a, b in zip(take(load(seed=9), 5), actual, strict=False))


@pytest.mark.parametrize(
    ("mixture", "shares"),
    [
        ({"limit": 1000}, {"synthetic/movies": 0.75, "synthetic/topic": 0.25}),
        ({"limit": None, "temperature": 2.0}, {"synthetic/movies": 0.63, "synthetic/topic": 0.37}),
    ],
)
def test_mixture_rates_from_sizes(mixture, shares, tokenizer, data_dir):
    movies = tasks.get("synthetic/movies")
    few = tasks.Task(
        "few",
        "synthetic/topic:1.0.0",
        "few sentence: {sentence}",
        labels=tasks.get("synthetic/topic").labels,
        splits={"train": "train[:333]"},
    )
    mixture = tasks.Mixture("mine", (movies, few), **mixture)
    sizes = {movies: 2000, few: 333}
    rates = mixture.rates(sizes)
    dataset = data.load_mixture(mixture, "train", tokenizer, 50, data_dir=data_dir)
    start = tokenizer("movies ")[0]
    rows = [row[0] == start for x, _, _ in take(dataset, 50) for row in x["encoder_token_ids"]]
    assert np.mean(rows) == pytest.approx(rates[movies], abs=0.04)
    assert rates[movies] == pytest.approx(shares["synthetic/movies"], abs=0.1)


# === Sources ===


def test_block_parser_reads_what_tfds_serves(shared):
    task = tasks.get("glue/sst2")
    builder = sources.find_builder(task, shared / "data" / "tfds")
    fast = list(sources.open_rows(task, "train[500:3000]+validation", shared / "data" / "tfds")())
    blocks = sources._served(builder, "train[500:3000]+validation")
    served = [row for block in blocks.as_numpy_iterator() for row in sources._rows(block)]
    assert len(fast) == 2500 + 872
    assert fast == served


@cut
@pytest.mark.parametrize("name", REAL)
def test_real_data_through_the_whole_path(name, shared, t5_tokenizer):
    task, data_dir = tasks.get(name), shared / "data" / "tfds"
    arguments = {"data_dir": data_dir, "target_length": max(16, task.max_target_length)}
    some = "train[:5%]" if name != "super_glue/record" else "train"
    dataset = data.load_task(name, some, t5_tokenizer, 8, **arguments)
    expected = contents_of(
        name, some, t5_tokenizer, data_dir, True, target_length=arguments["target_length"]
    )
    assert expected.total() > 0
    assert contents(take(dataset)) == expected
    some = list(data.load_examples(name, task.validation[0], data_dir=data_dir, limit=5))
    assert {example.index for example in some} <= set(range(5))


@pytest.mark.parametrize(
    ("name", "limit"), [("glue/sst2", 15), ("glue/rte", 15), ("super_glue/boolq", 15)]
)
@cut
def test_padding_stays_under_15_percent(name, limit, shared, t5_tokenizer):
    dataset = data.load_task(name, "train", t5_tokenizer, 32, data_dir=shared / "data" / "tfds")
    used = every = 0
    for x, _, _ in dataset.as_numpy_iterator():
        used += x["encoder_padding_mask"].sum()
        every += x["encoder_padding_mask"].size
    assert 100 * (1 - used / every) < limit


@cut
@pytest.mark.parametrize("name", ["glue/qqp", "super_glue/multirc", "super_glue/record"])
def test_mock_data_stands_in_for_data_that_are_absent(name, tmp_path, tokenizer):
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=12):
        actual = take(data.load_task(name, "train", tokenizer, 4, data_dir=tmp_path))
        examples = list(data.load_examples(name, "validation", data_dir=tmp_path))
    assert contents(actual).total() == len(examples) >= 12


FILES = {
    "csv": 'text,label\n"a, gem",good\ndull,0\n',
    "tsv": "text\tlabel\na, gem\tgood\ndull\t0\n",
    "json": '[{"text": "a, gem", "label": "good"}, {"text": "dull", "label": 0}]',
    "jsonl": '{"text": "a, gem", "label": "good"}\n\n{"text": "dull", "label": 0}\n',
}


def own_task(tmp_path, kind, content):
    path = tmp_path / f"rows.{kind}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return tasks.Task(
        "mine",
        input="review: {text}",
        labels=("bad", "good"),
        label_indices=True,
        files={"train": str(path)},
    )


@pytest.mark.parametrize("kind", FILES)
def test_own_files(kind, tmp_path, tokenizer):
    task = own_task(tmp_path, kind, FILES[kind])
    results = [(e.input, e.target, e.index) for e in data.load_examples(task, "train")]
    assert results == [("review: a, gem", "good", 0), ("review: dull", "bad", 1)]
    assert [e.index for e in data.load_examples(task, "train[1:]")] == [0]
    assert sources.count_rows(task, "train[:1]") == 1
    ((_, y, _),) = take(data.load_task(task, "train", tokenizer, 2))
    assert (y != 0).any(axis=1).all()


# === Strategies ===


REPLICAS = """
import itertools, json, os, sys
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
import numpy as np
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from keras_hub.tokenizers import T5Tokenizer
from keras_spot import data
strategy = tf.distribute.MirroredStrategy(
    ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
)
tokenizer = T5Tokenizer(proto=open(sys.argv[1], "rb").read())
for repeat in (False, True):
    load = lambda: data.load_task("synthetic/movies", "train[:101]", tokenizer, 8,
                                      data_dir=sys.argv[2], repeat=repeat)
    parts = iter(strategy.experimental_distribute_dataset(load()))
    for batch in itertools.islice(load(), 30):
        found = [strategy.experimental_local_results(part) for part in tf.nest.flatten(next(parts))]
        for whole, (one, two) in zip(tf.nest.flatten(batch), found, strict=True):
            assert one.shape[0] == two.shape[0] == 4
            assert np.array_equal(np.concatenate([one, two]), whole)
    if not repeat:
        assert next(parts, None) is None
print("equal")
"""


def test_two_replicas_share_every_global_batch(tokenizer, data_dir, tmp_path):
    model = tmp_path / "tiny.spm"
    model.write_bytes(tokenizer.proto)
    actual = subprocess.run(
        [sys.executable, "-c", REPLICAS, str(model), data_dir], capture_output=True, text=True
    )
    assert actual.stdout == "equal\n", actual.stderr[-2000:]


def test_the_process_ends_while_batches_are_being_made(data_dir, tokenizer, tmp_path):
    script = """
import os, sys
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
from keras_hub.tokenizers import T5Tokenizer
from keras_spot import data
tokenizer = T5Tokenizer(proto=open(sys.argv[1], "rb").read())
dataset = data.load_task("synthetic/movies", "train", tokenizer, 500, data_dir=sys.argv[2],
                             repeat=True)
iterator = iter(dataset)  # alive, and making the next batches, when the interpreter shuts down
next(iterator)
"""
    model = tmp_path / "tiny.spm"
    model.write_bytes(tokenizer.proto)
    subprocess.run(
        [sys.executable, "-c", script, str(model), data_dir],
        check=True,
        timeout=120,
        capture_output=True,
    )


# === Errors ===


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "synthetic/movie"},
         "`task` must be a known name. Received: task='synthetic/movie' "
         "(did you mean 'synthetic/movies' or 'synthetic/topic'?)"),
        ({"split": "trian"},
         "`split` must be a known name. Received: split='trian' (did you mean 'train'?)"),
        ({"split": "train[:0]"},
         "`split` must have rows. Received: split='train[:0]' of synthetic/movies"),
        ({"split": "test"},
         "`split` must have labels to train or validate on. "
         "Received: split='test' of synthetic/movies, which has none"),
        ({"tokenizer": None},
         "`tokenizer` must be a KerasHub T5Tokenizer. Received: tokenizer=None"),
        ({"batch_size": 0}, "`batch_size` must be a positive integer. Received: batch_size=0"),
        ({"batch_size": 2.0},
         "`batch_size` must be a positive integer. Received: batch_size=2.0"),
        ({"limit": -1}, "`limit` must be a positive integer. Received: limit=-1"),
        ({"input_length": 0},
         "`input_length` must be a positive integer. Received: input_length=0"),
        ({"buckets": (16, 0)},
         "`buckets` must be lengths of at least 2. Received: buckets=(16, 0)"),
        ({"start_step": -1, "repeat": True},
         "`start_step` must be a step number from 0 on. Received: start_step=-1"),
        ({"start_step": 5},
         "`start_step` must be 0 without `repeat`. Received: start_step=5"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments, message, tokenizer, data_dir):
    arguments = {
        "task": "synthetic/movies",
        "tokenizer": tokenizer,
        "data_dir": data_dir,
        **arguments,
    }
    with pytest.raises(ValueError, match=exactly(message)):
        data.load_task(**arguments)


def test_a_label_that_does_not_fit(tokenizer, data_dir):
    labels = tasks.get("synthetic/entailment").labels
    needed = max(len(tokenizer(label)) for label in labels) + 1
    message = (
        f"`target_length` must be at least {needed}, to hold the labels of "
        "synthetic/entailment. Received: target_length=1"
    )
    with pytest.raises(ValueError, match=exactly(message)):
        data.load_task(
            "synthetic/entailment", "train", tokenizer, data_dir=data_dir, target_length=1
        )


def test_missing_data_name_the_command(tmp_path, tokenizer):
    message = (
        f"`task` glue/qqp needs the data set glue/qqp:2.0.0, which is not in "
        f"{tmp_path}/glue/qqp/2.0.0; "
        f"prepare it with: keras-spot tasks --prepare glue/qqp --data-dir {tmp_path}"
    )
    for function in (data.load_task, data.load_examples):
        with pytest.raises(FileNotFoundError, match=exactly(message)):
            function(
                "glue/qqp",
                "train",
                data_dir=tmp_path,
                **({"tokenizer": tokenizer} if function is data.load_task else {}),
            )
    message = (
        f"`task` mr needs the data set mr:1.0.0, which is not in {tmp_path}; "
        f"TFDS has no builder for it, so put its prepared directory into {tmp_path}"
    )
    with pytest.raises(FileNotFoundError, match=exactly(message)):
        data.load_examples("mr", "train", data_dir=tmp_path)


def test_prepare_makes_what_load_reads(tmp_path, capfd):
    path = data.prepare("synthetic/topic", tmp_path)
    assert capfd.readouterr() == ("", "")
    assert path == str(tmp_path / "synthetic" / "topic" / "1.0.0")
    assert data.prepare("synthetic/topic", tmp_path) == path
    task = own_task(tmp_path, "csv", FILES["csv"])
    with pytest.raises(
        ValueError,
        match=exactly("`task` must be a TFDS data set to be prepared. Received: task='mine'"),
    ):
        data.prepare(task)


def test_prepare_without_a_network(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def refuse(self):
        raise ConnectionError("no route\n to host")

    monkeypatch.setattr(remote, "knock", lambda host: refuse(host))
    message = (
        r"^`task` must be on a host that answers\. Received: glue/qqp:2\.0\.0 from .*\(no route"
    )
    with pytest.raises(ConnectionError, match=message):
        data.prepare("glue/qqp", tmp_path)
    monkeypatch.setattr(remote, "knock", lambda host: None)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", refuse)
    message = "`task` must be downloadable. Received: glue/qqp:2.0.0 (no route to host)"
    with pytest.raises(ValueError, match=exactly(message)):
        data.prepare("glue/qqp", tmp_path)
    message = (
        f"`data_dir` must be writable, to prepare synthetic/topic/1.0.0 in it. "
        f"Received: {tmp_path}/synthetic/topic/1.0.0 (no route\n to host)"
    )
    with pytest.raises(ValueError, match=exactly(message)):
        data.load_examples("synthetic/topic", "train", data_dir=tmp_path)


@pytest.mark.parametrize("name", ["glue/none:2.0.0", "glue/sst2:9.9.9"])
def test_data_sets_that_tfds_cannot_build(name, tmp_path):
    task = tasks.Task("mine", name, "{sentence}")
    with pytest.raises(ValueError, match=f"^`task` must name a data set of TFDS. Received: {name}"):
        data.load_examples(task, "train", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("jsonl", '{"text": "x", "label": 1}\n{"text": "y", "label": 7}\n',
         "`label` must be one of ['bad', 'good'] or a number from -1 to 1. "
         "Received: 7 in row 1 of mine in PATH"),
        ("jsonl", '{"text": "x", "label": 1}\n{"label": 1}\n',
         "`row` must have the feature 'text'. Received: row 1 of mine in PATH, with ['label']"),
        ("jsonl", '{"text": "x", "label": 1}\n{"text": \n',
         "`row` must be readable. Received: row 1 of mine in PATH (line 2): "
         "Expecting value at character 8"),
        ("csv", "text,label\nx,1\ny\n",
         "`row` must be readable. Received: row 1 of mine in PATH (line 3): "
         "1 value for 2 columns, not one value for each column"),
        ("csv", b"text,label\nx,1\n\xff\xfe,1\n",
         "`row` must be readable. Received: row 1 of mine in PATH (line 3): not text in utf-8: "
         "byte 0xff at position 0 (the task's `encoding` says another)"),
        ("json", '[{"text": "x"}, 3]',
         "`row` must be readable. Received: row 1 of mine in PATH: no record of features: 3"),
        ("jsonl", '{"text": null, "label": 1}',
         "`row` must have a value for 'text' (or the task `missing: skip`). "
         "Received: row 0 of mine in PATH, where it is None"),
        ("json", '{"text": "x"}', "`files` must have rows. Received: PATH: no list of records"),
    ],
)  # fmt: skip
def test_bad_rows_are_named(kind, content, message, tmp_path):
    task = own_task(tmp_path, kind, content)
    message = message.replace("PATH", task.files["train"])
    with pytest.raises(ValueError, match=exactly(message)):
        list(data.load_examples(task, "train"))


def test_a_bad_row_stops_training_and_is_named(tmp_path, tokenizer, monkeypatch):
    import tensorflow as tf

    task = own_task(tmp_path, "jsonl", '{"text": "x", "label": 1}\n{"text": "y", "label": 7}\n')
    with pytest.raises(ValueError, match="Received: 7 in row 1 of mine"):
        data.load_task(task, "train", tokenizer, 1)
    monkeypatch.setattr(load, "LOOK", 1)  # as if it were further on
    dataset = data.load_task(task, "train", tokenizer, 1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Received: 7 in row 1 of mine"):
        take(dataset)


def test_an_unlabelled_row_is_no_training_row(tmp_path, tokenizer):
    import tensorflow as tf

    task = own_task(tmp_path, "jsonl", '{"text": "x", "label": 1}\n{"text": "y"}\n')
    for shuffle in (True, False):
        dataset = data.load_task(task, "train", tokenizer, 1, shuffle=shuffle)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"must have a label.*row 1 of"):
            take(dataset)
    assert [e.target for e in data.load_examples(task, "train")] == ["good", "<unk>"]


def test_a_preprocess_that_fails_is_named(tmp_path):
    task = dataclasses.replace(
        own_task(tmp_path, "jsonl", '{"text": "x", "label": 1}\n'),
        preprocess=lambda row: [{"text": row["text"] + 1}],
    )
    with pytest.raises(
        ValueError,
        match=r"^`row` must be one that the task can read. "
        r"Received: row 0 of mine: TypeError\(",
    ):
        list(data.load_examples(task, "train"))


def test_files_that_are_absent(tmp_path):
    task = tasks.Task("mine", None, "{text}", files={"train": str(tmp_path / "x.csv")})
    message = f"`task` mine reads 'train' from {tmp_path}/x.csv, which is absent"
    with pytest.raises(FileNotFoundError, match=exactly(message)):
        data.load_examples(task, "train")
    message = "`split` must be a known name. Received: split='test' (known: train)"
    with pytest.raises(ValueError, match=exactly(message)):
        data.load_examples(task, "test")
    message = (
        "`split` must be a split of the task: name another in its `validation`, slice one "
        '(validation_split="train[90%:]", split="train[:90%]"), or train without '
        "(validation_split=\"\"). Received: split='validation' of mine, which has ['train']"
    )
    with pytest.raises(ValueError, match=exactly(message)):
        data.load_examples(task, "validation")
