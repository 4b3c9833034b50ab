"""A model over eight host devices equals one device, whichever way it is spread."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from keras_spot.base import meshes

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="module")
def outcome():
    """How many devices there are is decided before JAX starts: another process has eight."""
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    env |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", str(HERE / "sharded.py")]
    run = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", ["data", "model", "both", "fsdp", "bank"])
def test_several_devices_equal_one(outcome, case):
    of_case = outcome[case]
    assert of_case["prompt"] < 1e-5
    assert of_case["loss"] < 1e-5
    assert of_case["answers"] is True
    assert of_case["fingerprint"] is True
    share = {"data": 1.0, "model": 0.15, "both": 0.4, "fsdp": 0.15, "bank": 0.3}[case]
    assert of_case["share"] == 1.0 if share == 1.0 else of_case["share"] < share


def test_the_layout_has_a_name(outcome):
    names = [outcome[case]["name"] for case in ("data", "model", "both", "fsdp", "bank")]
    assert names == ["data:8", "model:8", "data:2,model:4", "fsdp:8", "fsdp:4,model:2"]


def test_heads_that_the_model_axis_does_not_divide_are_told(outcome):
    told = {case: outcome[case]["slow"] for case in ("data", "model", "both", "fsdp", "bank")}
    slow = meshes.uneven_heads(4, {"data": 1, "model": 8})
    assert slow.endswith("which is slow; model:2 and model:4 divide them")
    assert told == {"data": [], "model": [slow], "both": [], "fsdp": [], "bank": []}


def test_scales_of_blocks_lie_where_their_kernels_do(outcome):
    assert outcome["both"]["scale"] == [32]  # int8: one for each column, on every device
    assert outcome["bank"]["scale"] == [1, 8]  # int4: of [2, 32]


def test_a_run_goes_on_on_another_layout(outcome):
    assert outcome["resumed"] < 1e-5


def test_uneven_batches_train_and_score_as_on_one_device(outcome):
    assert outcome["uneven"] < 1e-4
    assert outcome["ran"] == ["data:2,model:4", [2]]


def test_texts_are_answered_and_ranked_in_uneven_batches(outcome):
    same, difference = outcome["texts"]
    assert same
    assert difference < 1e-3


def test_each_device_loads_its_own_part(outcome):
    assert outcome["loaded"] == {
        "model:8": [True, [32, 4]],
        "data:2,model:4": [True, [32, 8]],
        "fsdp:4,model:2": [True, [8, 16]],
        "file": True,
    }


def test_what_a_mesh_cannot_hold_is_refused(outcome):
    assert outcome["refused"] == {
        "too many": "`devices` must suit the 8 devices there are. Received: 'model:16'",
        "two open": "`devices` must give the size of one axis at least, as in data:2,model:4. "
        "Received: 'data,model'",
        "two of batches": "`devices` must deal out batches over one axis, data or fsdp. "
        "Received: 'data:2,fsdp:4'",
        "unknown": "`devices` must be a known name. Received: devices='fdsp:8' "
        "(did you mean 'fsdp'?)",
        "no tpu": "`devices` must be a TPU that JAX sees. Received: 'tpu' with CPU",
        "no platform": "`devices` must be of a platform that JAX can start. Received: "
        "JAX_PLATFORMS=cpu: Unable to initialize backend 'tpu': it is in use",
        "made outside": "`model` must be made inside the scope of its devices, or used outside of "
        "it. Received: a model of one device in the scope of data:8",
        "uneven": "`devices` must deal out token_embedding/embeddings evenly over model. "
        "Received: model:8 for 60",
        "uneven preset": "`devices` must deal out token_embedding/embeddings evenly over model. "
        "Received: model:3 for 8000",
        "replicated": "`devices` must spread every matrix of the backbone over model. "
        "Received: transformer_encoder_layer_0/input_projector/kernel on several devices",
        "half spread": "`devices` must spread every matrix of the backbone over fsdp and model. "
        "Received: transformer_encoder_layer_0/input_projector/kernel on several devices",
    }
