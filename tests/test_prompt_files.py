import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from keras_spot import prompt_files

PROMPT = np.arange(6, dtype="float32").reshape(2, 3)


def run_dir(path, steps=(5, 10), best=None):
    for step in steps:
        prompt_files.write(prompt_files.step_path(path, step), PROMPT + step)
    record = {"task": "glue/sst2", "backbone": "abc", "recipe": {}}
    if best is not None:
        record["best"] = {"step": best, "score": 91.5}
    (path / "run.json").write_text(json.dumps(record))
    return path


@pytest.mark.parametrize("name", ["p.npz", "p.npy", prompt_files.REFERENCE_NAME])
def test_every_form_comes_back_as_it_was(tmp_path, name):
    prompt_files.write(tmp_path / name, PROMPT, {"task": "glue/rte", "step": 7})
    found = prompt_files.read(tmp_path / name)
    np.testing.assert_array_equal(found.values, PROMPT)
    assert found.values.dtype == np.float32
    assert found.provenance == ({"task": "glue/rte", "step": 7} if name == "p.npz" else {})
    assert os.listdir(tmp_path) == [name]


def test_the_reference_layout_is_plain_npy_without_extension(tmp_path):
    path = prompt_files.write(prompt_files.step_path(tmp_path, 500), PROMPT)
    assert path == tmp_path / "numpy_checkpoints/checkpoint_500/encoder.prompt.prompt.prompt"
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), PROMPT)


def test_other_float_types_and_orders_become_float32(tmp_path):
    np.save(tmp_path / "f.npy", np.asfortranarray(PROMPT.astype("float64")))
    np.testing.assert_array_equal(prompt_files.read(tmp_path / "f.npy").values, PROMPT)


def test_a_run_directory_gives_its_best_step_else_the_newest(tmp_path):
    run = run_dir(tmp_path / "a", best=5)
    np.testing.assert_array_equal(prompt_files.read(run).values, PROMPT + 5)
    assert prompt_files.read(run).provenance == {
        "task": "glue/sst2",
        "backbone": "abc",
        "step": 5,
        "score": 91.5,
    }
    np.testing.assert_array_equal(prompt_files.read(run, "newest").values, PROMPT + 10)
    np.testing.assert_array_equal(prompt_files.read(run, 10).values, PROMPT + 10)
    without = run_dir(tmp_path / "b")
    np.testing.assert_array_equal(prompt_files.read(without).values, PROMPT + 10)
    inner = without / "numpy_checkpoints"
    np.testing.assert_array_equal(prompt_files.read(inner).values, PROMPT + 10)
    np.testing.assert_array_equal(prompt_files.read(inner / "checkpoint_5").values, PROMPT + 5)
    assert prompt_files.steps(without) == [5, 10]


def test_provenance_is_read_without_the_data(tmp_path):
    path = prompt_files.write(tmp_path / "p.npz", PROMPT, {"score": 1.5})
    assert prompt_files.read_provenance(path) == {"score": 1.5, "shape": (2, 3)}
    run = run_dir(tmp_path / "run", best=10)
    assert prompt_files.read_provenance(run)["shape"] == (2, 3)


BAD_ARRAYS = {
    "`prompt` must have the shape [prompt length, hidden width]. Received: shape=(3,)": [1.0, 2, 3],
    "`prompt` must be floating-point. Received: dtype=int64": np.ones((2, 2), "int64"),
    "`prompt` must not be empty. Received: shape=(0, 3)": np.ones((0, 3)),
    "`prompt` must hold finite numbers only. Received: NaN or infinity in row 1": np.array(
        [[1.0, 2.0], [np.nan, 0.0]]
    ),
    "`prompt` must not be pickled. Received: dtype=object": np.array([[None]]),
}


@pytest.mark.parametrize("message", BAD_ARRAYS)
def test_what_is_no_prompt_is_refused_and_nothing_is_written(tmp_path, message):
    target = tmp_path / "p.npz"
    target.write_bytes(b"old")
    with pytest.raises(ValueError) as error:
        prompt_files.write(target, BAD_ARRAYS[message])
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


@pytest.mark.parametrize("name", damaged_files())
def test_damaged_files_give_one_line_that_names_the_file(tmp_path, name):
    content, message = damaged_files()[name]
    (tmp_path / name).write_bytes(content)
    for read in (prompt_files.read, prompt_files.read_provenance):
        if read is prompt_files.read_provenance and name in ("short.npy", "long.npy", "nan.npy"):
            continue  # only the data are wrong
        with pytest.raises(ValueError) as error:
            read(tmp_path / name)
        assert str(error.value).startswith(message)
        assert name in str(error.value)
        assert "\n" not in str(error.value)


def test_a_truncated_own_form_is_refused(tmp_path):
    path = prompt_files.write(tmp_path / "p.npz", PROMPT, {"task": "x"})
    whole = path.read_bytes()
    for size in range(0, len(whole), 37):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"^`path` must "):
            prompt_files.read(path)


def test_an_archive_without_a_prompt_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", weights=PROMPT)
    with pytest.raises(ValueError, match=r"`path` must hold an array called `prompt`"):
        prompt_files.read(tmp_path / "other.npz")


def test_nothing_there_and_unknown_steps(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^`path` must exist\. Received: path='"):
        prompt_files.read(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"must be a prompt file or hold numpy_checkpoints"):
        prompt_files.read(tmp_path)
    run = run_dir(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match=r"`step` must be one of the run's steps \(5, 10\)"):
        prompt_files.read(run, 7)
    with pytest.raises(ValueError, match=r"`step` must not be 'best'"):
        prompt_files.read(run, "best")
    (run / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"`run_dir` must hold a readable run.json"):
        prompt_files.read(run)


def test_another_file_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`path` must end in \.npz, \.npy or encoder"):
        prompt_files.write(tmp_path / "prompt.txt", PROMPT)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = prompt_files.write(tmp_path / "p.npz", PROMPT)
    before = path.read_bytes()

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        prompt_files.write(path, PROMPT * 2)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["p.npz"]


def test_reading_prompts_needs_no_tensorflow():
    code = (
        "import sys, keras_spot, keras_spot.prompt_files, keras_spot.tasks;"
        "print([m for m in ('tensorflow', 'keras', 'jax', 'torch') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["sst2", "mrpc", "rte"])
def test_googles_released_prompts(shared, name):
    found = prompt_files.read(shared / "data/prompts/t5_1_1_lm100k_base" / f"{name}.npy")
    assert found.values.shape == (100, 768)
    norms = np.linalg.norm(found.values, axis=1)
    assert 100 < norms.mean() < 2000


def test_a_float64_prompt(shared):
    assert prompt_files.read(shared / "data/prompts/prompt_5x256.npy").values.shape == (5, 256)
