"""Disks that are full: one error that names the file, what was there stays, nothing is left."""

import contextlib
import json
import os
import resource

import numpy as np
import pytest

from keras_spot import PromptLibrary, prompts
from keras_spot.base.claims import Claims
from keras_spot.training.run_folder import RunFolder
from keras_spot.training.tensorboard import ScalarWriter

PROMPT = np.ones((2, 3), "float32")


@contextlib.contextmanager
def full_disk(room=0):
    """No file may grow beyond so many bytes in the block, as if the disk were full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def run_folder(folder):
    run = RunFolder(folder)
    run.open({"task": "t"})
    return run


WRITERS = {
    "a prompt .npy": lambda folder: prompts.write(folder / "p.npy", PROMPT),
    "a prompt .npz": lambda folder: prompts.write(folder / "p.npz", PROMPT),
    "an adapter": lambda folder: prompts.write(folder / "adapter", PROMPT, {}, "peft"),
    "a library": lambda folder: PromptLibrary(folder).add("a", PROMPT),
    "a run": run_folder,
    "a claim": lambda folder: Claims(folder).take("work"),
    "a lock": lambda folder: RunFolder(folder).owner.acquire(),
}


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_left_and_the_error_names_its_file(name, tmp_path):
    with full_disk(), pytest.raises(OSError) as error:
        WRITERS[name](tmp_path)
    assert str(error.value.filename).startswith(str(tmp_path))
    assert os.listdir(tmp_path) == []
    WRITERS[name](tmp_path)


def test_what_a_run_has_stays(tmp_path):
    run = run_folder(tmp_path)
    run.save_state(4, {"prompt": PROMPT})
    run.append_metrics({"step": 4, "loss": 1.0})
    with full_disk():
        for call in (
            lambda: run.append_metrics({"step": 8, "loss": 1.0}),
            lambda: run.record_best(8, 60.0, float.__gt__),
            lambda: run.save_state(8, {"prompt": PROMPT}),
        ):
            with pytest.raises(OSError) as error:
                call()
            assert str(error.value.filename).startswith(str(tmp_path))
    assert run.newest_step() == 4
    assert [line["step"] for line in run.metrics()] == [4]
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_a_claim_is_given_back_on_a_full_disk(tmp_path):
    claims = Claims(tmp_path)
    claim = claims.take("work")
    with full_disk(30), pytest.raises(RuntimeError), claims.kept(claim):
        raise RuntimeError
    assert json.loads(claim.read_text()) == {"released": True}
    assert claims.take("work").name == "work.1"


def test_tensorboards_events(tmp_path):
    """Written by TensorFlow, in a folder whose name need not be UTF-8."""
    folder = tmp_path / os.fsdecode(b"events\xff")
    writer = ScalarWriter(folder)
    writer.write({"loss": 1.0}, 1)
    with full_disk(), pytest.raises(OSError) as error:
        writer.write({"loss": 2.0}, 2)
    assert error.value.filename == str(folder)
    writer.close()
    assert len(list(folder.iterdir())) == 1
