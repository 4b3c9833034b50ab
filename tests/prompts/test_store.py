import json
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from hypothesis.strategies import floats
from safetensors.numpy import save_file

from keras_spot import cli, prompts
from keras_spot.base import remote

PROMPT = np.arange(6, dtype="float32").reshape(2, 3)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("KERAS_SPOT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def memory():
    """fsspec's store in memory, at memory://."""
    import fsspec

    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def run_dir(path, steps=(5, 10), best=None):
    for step in steps:
        prompts.write(prompts.step_path(path, step), PROMPT + step)
    record = {"task": "glue/sst2", "backbone": "abc", "recipe": {}}
    if best is not None:
        record["best"] = {"step": best, "score": 91.5}
    (path / "run.json").write_text(json.dumps(record))
    return path


# form -> (name, what it keeps of the provenance below)
PROVENANCE = {"task": "glue/rte", "step": 7, "score": 91.5, "versions": {"numpy": "2.0"}}
FORMS = {
    "npz": ("p.npz", PROVENANCE),
    "npy": ("p.npy", {}),
    "reference": ("run", {"step": 7}),
    "peft": ("adapter", PROVENANCE),
}


@pytest.mark.parametrize("place", ["local", "memory"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_comes_back_as_it_was(tmp_path, memory, form, place):
    name, kept = FORMS[form]
    path = tmp_path / name if place == "local" else f"memory://bucket/prompts/{name}"
    written = prompts.write(path, PROMPT, PROVENANCE, form)
    for where in (path, written):
        actual = prompts.read(where)
        assert actual.values.tobytes() == PROMPT.tobytes()
        assert actual.values.dtype == np.float32
        assert actual.provenance == kept
        assert prompts.read_header(where) == ((2, 3), kept)
        assert prompts.read_provenance(where) == {**kept, "shape": (2, 3)}
    if place == "local":
        assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["p.npz", "p.npy", prompts.REFERENCE_NAME])
def test_a_name_can_say_its_form(tmp_path, name):
    path = prompts.write(tmp_path / name, PROMPT)
    assert os.listdir(tmp_path) == [name]
    np.testing.assert_array_equal(prompts.read(path).values, PROMPT)


@given(
    arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2, max_side=5),
        elements=floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_no_bit_is_lost_from_form_to_form(values):
    with tempfile.TemporaryDirectory() as folder:
        for form, (name, _) in FORMS.items():
            path = prompts.write(pathlib.Path(folder, name), values, PROVENANCE, form)
            assert prompts.read(path).values.tobytes() == values.tobytes()


def test_the_reference_layout_is_plain_npy_without_extension(tmp_path):
    expected = tmp_path / "numpy_checkpoints/checkpoint_500/encoder.prompt.prompt.prompt"
    for path in (expected, expected.parent, tmp_path):
        assert prompts.write(path, PROMPT, {"step": 500}, "reference") == expected
        # The reference opens the file and calls `np.load` on it.
        with open(expected, "rb") as stream:
            actual = np.load(stream, allow_pickle=False)
        assert (actual.dtype, actual.shape) == (np.float32, (2, 3))
        np.testing.assert_array_equal(actual, PROMPT)
    # A step that is none, as a stranger's file may claim, names no other place.
    path = prompts.write(tmp_path, PROMPT, {"step": "/../../x"}, "reference")
    assert path == prompts.step_path(tmp_path, 0)


def test_other_float_types_and_orders_become_float32(tmp_path):
    np.save(tmp_path / "f.npy", np.asfortranarray(PROMPT.astype("float64")))
    np.testing.assert_array_equal(prompts.read(tmp_path / "f.npy").values, PROMPT)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_in_the_place_of_a_runs_record_is_damage(tmp_path, make):
    """Not a run without one, whose newest step would be taken instead of its best."""
    run = run_dir(tmp_path / "run", best=5)
    (run / "run.json").unlink()
    make(run / "run.json")
    with pytest.raises((OSError, ValueError), match=r"run/run\.json"):
        prompts.read(run)


def test_a_run_directory_gives_its_best_step_else_the_newest(tmp_path):
    run = run_dir(tmp_path / "a", best=5)
    np.testing.assert_array_equal(prompts.read(run).values, PROMPT + 5)
    assert prompts.read(run).provenance == {
        "task": "glue/sst2",
        "backbone": "abc",
        "step": 5,
        "score": 91.5,
    }
    np.testing.assert_array_equal(prompts.read(run, "newest").values, PROMPT + 10)
    np.testing.assert_array_equal(prompts.read(run, 10).values, PROMPT + 10)
    without = run_dir(tmp_path / "b")
    np.testing.assert_array_equal(prompts.read(without).values, PROMPT + 10)
    inner = without / "numpy_checkpoints"
    np.testing.assert_array_equal(prompts.read(inner).values, PROMPT + 10)
    np.testing.assert_array_equal(prompts.read(inner / "checkpoint_5").values, PROMPT + 5)
    assert prompts.steps(without) == [5, 10]


def test_provenance_is_read_without_the_data(tmp_path):
    path = prompts.write(tmp_path / "p.npz", PROMPT, {"score": 1.5})
    assert prompts.read_provenance(path) == {"score": 1.5, "shape": (2, 3)}
    run = run_dir(tmp_path / "run", best=10)
    assert prompts.read_provenance(run)["shape"] == (2, 3)


BAD_ARRAYS = {
    "`prompt` must have the shape [prompt length, hidden width]. Received: shape=(3,)": [1.0, 2, 3],
    "`prompt` must be floating-point. Received: dtype=int64": np.ones((2, 2), "int64"),
    "`prompt` must not be empty. Received: shape=(0, 3)": np.ones((0, 3)),
    "`prompt` must hold finite numbers only. Received: NaN or infinity in row 1": np.array(
        [[1.0, 2.0], [np.nan, 0.0]]
    ),
    "`prompt` must hold finite numbers only. Received: NaN or infinity in row 0": np.array(
        [[1e300]]
    ),
    "`prompt` must not be pickled. Received: dtype=object": np.array([[None]]),
}


@pytest.mark.parametrize("message", BAD_ARRAYS)
def test_what_is_no_prompt_is_refused_and_nothing_is_written(tmp_path, message):
    target = tmp_path / "p.npz"
    target.write_bytes(b"old")
    with pytest.raises(ValueError) as error:
        prompts.write(target, BAD_ARRAYS[message])
    assert str(error.value) == message
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["p.npz"]


def damaged_files():
    good = npy_bytes(PROMPT)
    return {
        "empty.npy": (b"", "`path` must be a NumPy array file"),
        "text.npy": (b"hello world", "`path` must be a NumPy array file"),
        "header.npy": (good[:20], "`path` must be a NumPy array file"),
        "short.npy": (good[:-4], "`path` must hold 24 bytes of data for shape (2, 3)"),
        "long.npy": (good + b"1234", "`path` must hold 24 bytes of data for shape (2, 3)"),
        "pickle.npy": (npy_bytes(np.array([[{}]]), True), "`prompt` must not be pickled"),
        "raw.npy": (pickle.dumps(PROMPT), "`path` must be a NumPy array file"),
        "zip.npz": (b"PK\x03\x04 not a zip", "`path` must be a whole .npz file"),
        "nan.npy": (npy_bytes(PROMPT * np.nan), "`prompt` must hold finite numbers only"),
        "rank.npy": (npy_bytes(PROMPT[0]), "`prompt` must have the shape"),
    }


def npy_bytes(array, pickled=False):
    import io

    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=pickled)
    return stream.getvalue()


def test_headers_are_read_without_the_numbers(tmp_path, checkpoint):
    (tmp_path / "short.npy").write_bytes(npy_bytes(PROMPT)[:-24])
    assert prompts.read_header(tmp_path / "short.npy") == ((2, 3), {})
    folder = checkpoint()
    shutil.rmtree(folder / "target.encoder.prompt.prompt.prompt")
    assert prompts.read_header(folder) == ((2, 3), {"step": 3})
    with pytest.raises(ValueError, match=r"^`path` must hold whole zarr arrays\. Received: "):
        prompts.read(folder)


def test_google_loads_what_was_written_from_its_own_prompt(shared, tmp_path):
    original = shared / "data/prompts/t5_1_1_lm100k_base/sst2.npy"
    path = prompts.write(tmp_path / "run", prompts.read(original).values, form="reference")
    assert path.read_bytes() == original.read_bytes()


@pytest.mark.parametrize("name", damaged_files())
def test_damaged_files_give_one_line_that_names_the_file(tmp_path, name):
    content, message = damaged_files()[name]
    (tmp_path / name).write_bytes(content)
    for read in (prompts.read, prompts.read_provenance):
        if read is prompts.read_provenance and name in ("short.npy", "long.npy", "nan.npy"):
            continue  # only the data are wrong
        with pytest.raises(ValueError) as error:
            read(tmp_path / name)
        assert str(error.value).startswith(message)
        assert name in str(error.value)
        assert "\n" not in str(error.value)


def test_a_truncated_own_form_is_refused(tmp_path):
    path = prompts.write(tmp_path / "p.npz", PROMPT, {"task": "x"})
    whole = path.read_bytes()
    for size in range(0, len(whole), 37):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"^`path` must "):
            prompts.read(path)


def test_an_archive_without_a_prompt_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", weights=PROMPT)
    with pytest.raises(ValueError, match=r"`path` must hold an array called `prompt`"):
        prompts.read(tmp_path / "other.npz")


def test_nothing_there_and_unknown_steps(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^`path` must exist\. Received: path='"):
        prompts.read(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"must be a prompt file or hold numpy_checkpoints"):
        prompts.read(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"bank": ["super_glue/cb", "rte"]}))
    with pytest.raises(FileNotFoundError, match=r"one prompt of the bank, such as .*glue\.cb"):
        prompts.read(tmp_path)
    run = run_dir(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match=r"`step` must be one of the run's steps \(5, 10\)"):
        prompts.read(run, 7)
    with pytest.raises(ValueError, match=r"`step` must not be 'best'"):
        prompts.read(run, "best")
    (run / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"`run_dir` must hold a readable run.json"):
        prompts.read(run)


BAD_TARGETS = {
    "`path` must end in .npz, .npy or encoder.prompt.prompt.prompt where `form` is not given. "
    "Received: path='prompt.txt'": ("prompt.txt", None),
    "`path` must end in .npz. Received: path='prompt.npy'": ("prompt.npy", "npz"),
    "`path` must end in .npy. Received: path='prompt'": ("prompt", "npy"),
    "`form` must be one of npy, npz, reference, peft. Received: form='onnx'": ("p", "onnx"),
    "`form` must be one of npy, npz, reference, peft. Received: a T5X checkpoint, which is read "
    "only": ("p", "t5x"),
    "`path` must be new, empty or hold nothing but a PEFT adapter that keras_spot wrote (choose "
    "another, or empty it yourself). Received: full (holds thesis.tex)": ("full", "peft"),
}


@pytest.mark.parametrize("message", BAD_TARGETS)
def test_targets_that_are_refused(tmp_path, monkeypatch, message):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("full").mkdir()
    pathlib.Path("full", "thesis.tex").write_text("years of work")
    name, form = BAD_TARGETS[message]
    with pytest.raises(ValueError) as error:
        prompts.write(name, PROMPT, form=form)
    assert str(error.value) == message
    assert os.listdir() == ["full"]


# === PEFT adapters ===

SINGLE = {
    "peft_type": "PROMPT_TUNING",
    "task_type": "SEQ_2_SEQ_LM",
    "num_virtual_tokens": 2,
    "num_transformer_submodules": 1,
    "token_dim": 3,
    "base_model_name_or_path": "google/t5-large-lm-adapt",
}
MULTITASK = {**SINGLE, "peft_type": "MULTITASK_PROMPT_TUNING", "num_transformer_submodules": None}
RNG = np.random.default_rng(0)
FACTORS = {
    "prompt_embeddings": RNG.normal(size=(4, 3)).astype("float32"),
    "prefix_task_cols": RNG.normal(size=(3, 4, 2)).astype("float32"),
    "prefix_task_rows": RNG.normal(size=(3, 2, 3)).astype("float32"),
}


def test_the_same_prompt_is_the_same_bytes(tmp_path):
    """Of a library's or a run's files a hash can then tell that nothing has changed."""
    for number in range(8):
        prompts.write(tmp_path / str(number), np.ones((2, 3)), {"task": "ä", "step": 1}, "peft")
    contents = {file.read_bytes() for file in tmp_path.glob("*/adapter_model.safetensors")}
    assert len(contents) == 1
    assert prompts.read(tmp_path / "0").provenance["task"] == "ä"


def adapter(folder, config=SINGLE, tensors=None):
    folder.mkdir()
    if config is not None:
        (folder / "adapter_config.json").write_text(json.dumps(config))
    if tensors is not False:
        tensors = {"prompt_embeddings": PROMPT} if tensors is None else tensors
        save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def test_an_adapter_of_somebody_else(tmp_path):
    folder = adapter(tmp_path / "a")
    for path in (folder, folder / "adapter_model.safetensors"):
        actual = prompts.read(path)
        np.testing.assert_array_equal(actual.values, PROMPT)
        assert actual.path == folder / "adapter_model.safetensors"
        assert actual.provenance == {
            "peft_type": "PROMPT_TUNING",
            "base_model": "google/t5-large-lm-adapt",
        }


def test_the_encoder_gets_the_first_rows_of_an_adapter_for_both(tmp_path):
    config = {**SINGLE, "num_transformer_submodules": 2}
    both = {"prompt_embeddings": np.concatenate([PROMPT, PROMPT + 9])}
    folder = adapter(tmp_path / "a", config, both)
    np.testing.assert_array_equal(prompts.read(folder).values, PROMPT)
    assert prompts.read_header(folder)[0] == (2, 3)


def test_a_task_of_a_multitask_adapter(tmp_path):
    folder = adapter(tmp_path / "a", MULTITASK, FACTORS)
    for task in range(3):
        expected = FACTORS["prompt_embeddings"] * (
            FACTORS["prefix_task_cols"][task] @ FACTORS["prefix_task_rows"][task]
        )
        actual = prompts.read(folder, task_id=task)
        np.testing.assert_allclose(actual.values, expected[:2], rtol=1e-6)
        assert actual.provenance["task_id"] == task
        assert actual.provenance["left_out"] == "the decoder's prompt"
    assert prompts.read_header(folder)[0] == (2, 3)
    for task in (None, 3, -1):
        with pytest.raises(ValueError) as error:
            prompts.read(folder, task_id=task)
        assert str(error.value) == (
            "`task_id` must be one of the adapter's tasks, 0 to 2. "
            f"Received: task_id={task} for {folder / 'adapter_model.safetensors'}"
        )
    with pytest.raises(ValueError, match="`task_id` must be None for an adapter of one task"):
        prompts.read(adapter(tmp_path / "b"), task_id=0)
    np.save(tmp_path / "p.npy", PROMPT)
    with pytest.raises(ValueError, match="`task_id` must be None where the prompt is no multi"):
        prompts.read(tmp_path / "p.npy", task_id=0)


def test_adapters_in_half_precision(tmp_path):
    import ml_dtypes

    for name, dtype in (("half", np.float16), ("brain", ml_dtypes.bfloat16)):
        folder = adapter(tmp_path / name, tensors={"prompt_embeddings": PROMPT.astype(dtype)})
        np.testing.assert_array_equal(prompts.read(folder).values, PROMPT)


WEIGHTS = "adapter_model.safetensors"
ROWS = "`path` must hold num_virtual_tokens x num_transformer_submodules rows"
# name -> (config, tensors, message)
BAD_ADAPTERS = {
    "lora": (
        {**SINGLE, "peft_type": "LORA"},
        None,
        "`path` must be an adapter of the type PROMPT_TUNING or MULTITASK_PROMPT_TUNING. "
        "Received: peft_type='LORA' in {}/adapter_config.json",
    ),
    "no type": (
        {},
        None,
        "`path` must be an adapter of the type PROMPT_TUNING or MULTITASK_PROMPT_TUNING. "
        "Received: peft_type=None in {}/adapter_config.json",
    ),
    "list": (
        [],
        None,
        "`path` must hold a readable adapter_config.json. "
        "Received: {}/adapter_config.json (a list)",
    ),
    "weights": (SINGLE, False, f"`path` must hold {WEIGHTS}. Received: {{}}"),
    "other": (
        SINGLE,
        {"lora_A": PROMPT},
        f"`path` must hold the tensor prompt_embeddings. Received: {{}}/{WEIGHTS}",
    ),
    "factors": (
        MULTITASK,
        {k: v for k, v in FACTORS.items() if k != "prefix_task_rows"},
        f"`path` must hold the tensor prefix_task_rows. Received: {{}}/{WEIGHTS}",
    ),
    "rank": (
        MULTITASK,
        {**FACTORS, "prefix_task_cols": FACTORS["prefix_task_cols"][:, :, :1].copy()},
        "`path` must hold task factors that multiply to (4, 3). "
        f"Received: prefix_task_cols [3, 4, 1], prefix_task_rows [3, 2, 3] in {{}}/{WEIGHTS}",
    ),
    "rows": (
        {**SINGLE, "num_virtual_tokens": 5},
        None,
        f"{ROWS} (5 x 1). Received: shape=(2, 3) in {{}}/{WEIGHTS}",
    ),
    "whole numbers": (
        SINGLE,
        {"prompt_embeddings": PROMPT.astype("int64")},
        f"`prompt` must be floating-point. Received: dtype=I64 in {{}}/{WEIGHTS}",
    ),
    "flat": (
        SINGLE,
        {"prompt_embeddings": PROMPT[0]},
        "`prompt` must have the shape [prompt length, hidden width]. "
        f"Received: shape=(3,) in {{}}/{WEIGHTS}",
    ),
    "nan": (
        SINGLE,
        {"prompt_embeddings": PROMPT * np.nan},
        "`prompt` must hold finite numbers only. "
        f"Received: NaN or infinity in row 0 in {{}}/{WEIGHTS}",
    ),
}


@pytest.mark.parametrize("name", BAD_ADAPTERS)
def test_adapters_that_are_refused(tmp_path, name):
    config, tensors, message = BAD_ADAPTERS[name]
    folder = adapter(tmp_path / "a", config, tensors)
    readers = [prompts.read] + [prompts.read_header] * (name != "nan")
    for read in readers:
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            read(folder)
        assert str(error.value) == message.format(folder)


def test_pickled_adapters_are_never_opened(tmp_path):
    folder = adapter(tmp_path / "a", tensors=False)
    (folder / "adapter_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    for path in (folder, folder / "adapter_model.bin"):
        with pytest.raises(ValueError) as error:
            prompts.read(path)
        assert str(error.value) == (
            "`path` must not be pickled (save the adapter as adapter_model.safetensors). "
            f"Received: {folder / 'adapter_model.bin'}"
        )


def test_a_truncated_adapter(tmp_path):
    folder = adapter(tmp_path / "a")
    whole = (folder / WEIGHTS).read_bytes()
    for size in range(0, len(whole), 29):
        (folder / WEIGHTS).write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"^`path` must be a whole safetensors file\. Rece"):
            prompts.read(folder)
    (folder / WEIGHTS).write_bytes(whole)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"must lie beside its adapter_config\.json"):
        prompts.read(folder / WEIGHTS)


def test_an_interrupted_adapter_leaves_nothing(tmp_path, monkeypatch):
    from keras_spot.prompts.forms import peft

    prompts.write(tmp_path / "a", PROMPT, form="peft")
    monkeypatch.setattr(peft.Path, "write_text", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prompts.write(tmp_path / "a", PROMPT * 2, form="peft")
    assert os.listdir(tmp_path) == ["a"]
    np.testing.assert_array_equal(prompts.read(tmp_path / "a").values, PROMPT)


# === T5X checkpoints ===


@pytest.fixture
def checkpoint(tmp_path):
    """Write a T5X checkpoint with a prompt in its index or beside it."""
    tensorstore = pytest.importorskip("tensorstore", reason="needs the extra [t5x]")
    msgpack = pytest.importorskip("msgpack", reason="needs the extra [t5x]")

    def make(name="checkpoint_3", beside=True, values=PROMPT):
        folder = tmp_path / name
        folder.mkdir(parents=True)

        def inline(array):
            content = msgpack.packb((array.shape, array.dtype.name, array.tobytes()))
            return msgpack.ExtType(1, content)

        leaf = inline(values)
        if beside:
            path = "target.encoder.prompt.prompt.prompt"
            metadata = {"shape": list(values.shape), "chunks": [1, 2], "dtype": values.dtype.str}
            metadata["compressor"] = {"id": "gzip", "level": 1}
            spec = {"driver": "zarr", "metadata": metadata}
            local = {"driver": "file", "path": str(folder / path)}
            store = tensorstore.open({**spec, "kvstore": local}, create=True).result()
            store.write(values).result()
            leaf = {**spec, "kvstore": {"driver": "gfile", "path": path}}
        norm = {"scale": inline(np.ones(3, "float32"))}
        encoder = {"encoder_norm": norm, "prompt": {"prompt": {"prompt": leaf}}}
        state = {"step": inline(np.int32(3) * np.ones((), "int32"))}
        tree = {"version": 3, "optimizer": {"state": state, "target": {"encoder": encoder}}}
        (folder / "checkpoint").write_bytes(msgpack.packb(tree))
        return folder

    return make


@pytest.mark.parametrize("beside", [True, False])
def test_a_checkpoint_gives_its_prompt_and_step(checkpoint, beside):
    folder = checkpoint(beside=beside)
    for path in (folder, folder / "checkpoint"):
        actual = prompts.read(path)
        np.testing.assert_array_equal(actual.values, PROMPT)
        assert actual.provenance == {"step": 3}
        assert prompts.read_header(path) == ((2, 3), {"step": 3})


def test_a_models_folder_gives_its_newest_checkpoint(checkpoint, tmp_path):
    checkpoint("model/checkpoint_5")
    checkpoint("model/checkpoint_10", values=PROMPT + 1)
    np.testing.assert_array_equal(prompts.read(tmp_path / "model").values, PROMPT + 1)
    np.testing.assert_array_equal(prompts.read(tmp_path / "model", 5).values, PROMPT)


def test_of_a_remote_checkpoint_only_the_prompt_is_fetched(checkpoint, memory):
    folder = checkpoint()
    remote.put(folder, "memory://bucket/checkpoint_3")
    memory.pipe("/bucket/checkpoint_3/target.decoder.big.kernel/0.0", b"gigabytes")
    actual = prompts.read("memory://bucket/checkpoint_3")
    np.testing.assert_array_equal(actual.values, PROMPT)
    assert not list(actual.path.parent.glob("target.decoder*"))


def test_bad_checkpoints(checkpoint, shared):
    folder = shared / "data/t5x/tiny_checkpoint_3"
    with pytest.raises(ValueError) as error:
        prompts.read(folder)
    assert str(error.value) == (
        "`path` must be a checkpoint with a prompt, target.encoder.prompt.prompt.prompt. "
        f"Received: {folder}"
    )
    folder = checkpoint(values=PROMPT[0], beside=False)
    with pytest.raises(ValueError, match=r"`prompt` must have the shape .* shape=\(3,\) in /"):
        prompts.read(folder)


# === Everything else ===


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = prompts.write(tmp_path / "p.npz", PROMPT)
    before = path.read_bytes()

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        prompts.write(path, PROMPT * 2)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["p.npz"]


def test_reading_prompts_needs_no_tensorflow():
    code = (
        "import sys, keras_spot, keras_spot.prompts, keras_spot.tasks;"
        "print([m for m in ('tensorflow', 'keras', 'jax', 'torch') if m in sys.modules])"
    )
    actual = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert actual.stdout.strip() == "[]"


def test_the_command_converts_from_form_to_form(tmp_path, monkeypatch, capsys):
    run = run_dir(tmp_path / "run", best=5)
    commands = [
        [run, tmp_path / "a.npz", "--step", "10"],
        [tmp_path / "a.npz", tmp_path / "adapter", "--to", "peft", "--base-model", "google/t5"],
        [tmp_path / "adapter", tmp_path / "again", "--to", "reference"],
        [tmp_path / "again", tmp_path / "b.npy"],
    ]
    for words in commands:
        monkeypatch.setattr(sys, "argv", ["keras-spot", "convert", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == 0
        assert capsys.readouterr().out.startswith(f"prompt: {words[1]}")
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), PROMPT + 10)
    assert prompts.read(tmp_path / "adapter").provenance["base_model"] == "google/t5"
    assert prompts.steps(tmp_path / "again") == [10]


def test_errors_name_the_address(memory):
    memory.pipe("/bucket/short.npy", npy_bytes(PROMPT)[:-4])
    memory.pipe("/bucket/empty/readme.txt", b"")
    with pytest.raises(ValueError) as error:
        prompts.read("memory://bucket/short.npy")
    assert str(error.value) == (
        "`path` must hold 24 bytes of data for shape (2, 3). "
        "Received: memory://bucket/short.npy (20 bytes)"
    )
    with pytest.raises(FileNotFoundError) as error:
        prompts.read("memory://bucket/empty")
    assert str(error.value) == (
        "`path` must exist and be readable to you. Received: memory://bucket/empty"
    )


@pytest.mark.parametrize(("name", "mean"), [("sst2", 1384.8), ("mrpc", 867.7), ("rte", 903.3)])
def test_googles_released_prompts(shared, name, mean):
    actual = prompts.read(shared / "data/prompts/t5_1_1_lm100k_base" / f"{name}.npy")
    assert actual.values.shape == (100, 768)
    assert np.linalg.norm(actual.values, axis=1).mean() == pytest.approx(mean, abs=0.05)


def test_a_float64_prompt(shared):
    path = shared / "data/prompts/prompt_5x256.npy"
    actual = prompts.read(path).values
    assert (actual.dtype, np.load(path).dtype) == (np.float32, np.float64)
    np.testing.assert_array_equal(actual, np.load(path).astype(np.float32))
