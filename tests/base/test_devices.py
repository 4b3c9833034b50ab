import json
import os
import pathlib
import subprocess
import sys

import pytest

from keras_spot.base import devices

HERE = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def replicas(tmp_path_factory):
    """Logical devices can only be made before TensorFlow starts: another process has two."""
    out = tmp_path_factory.mktemp("replicas") / "out.json"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
    command = [sys.executable, "-W", "ignore", str(HERE / "replicas.py"), str(out)]
    run = subprocess.run(command, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(out.read_text()), run.stdout


def test_two_replicas_equal_one_device_after_twenty_steps(replicas):
    actual, _ = replicas
    assert actual["replicas"] == 2
    assert actual["steps"] == 20
    assert actual["moved"] > 0.02
    assert actual["difference"] < 1e-5
    assert actual["losses"][1] == pytest.approx(actual["losses"][0], rel=1e-5)
    difference, one, two = actual["banks"]
    assert difference < 1e-5
    assert len(one) == 3
    assert two == pytest.approx(one, rel=1e-5)
    assert actual["optimizer"]
    assert actual["jit"] is False


def test_batches_that_replicas_cannot_share_evenly_count_as_on_one_device(replicas):
    one, two = replicas[0]["uneven"]
    assert one[:3] == pytest.approx([one[0]] * 3, rel=1e-5)  # whatever the batches
    assert two == pytest.approx(one, rel=1e-4)


def test_generation_on_replicas_equals_one_device(replicas):
    assert replicas[0]["same"] is True


def test_checkpoints_under_a_strategy_resume_exactly(replicas):
    assert replicas[0]["saved"] == 0.0


def test_the_pick_is_said(replicas):
    assert "devices: mirrored:2, 2 CPU" in replicas[1]


def test_what_cannot_be_right_is_refused(replicas):
    actual = replicas[0]["refused"]
    assert actual["dropout"] == ["`dropout` draws the same mask on all 2 replicas."]
    assert {name: message for name, message in actual.items() if name != "dropout"} == {
        "clipping": "`optimizer` must not use global_clipnorm with 2 replicas. "
        "Received: global_clipnorm=1.0",
        "accumulation": "`optimizer` must not use gradient_accumulation_steps with 2 replicas. "
        "Received: gradient_accumulation_steps=2",
        "averages": "`optimizer` must not use use_ema with 2 replicas. Received: use_ema=True",
        "jit": "`jit_compile` must be False under TPUStrategy or with several replicas. "
        "Received: jit_compile=True",
        "executions": "`steps_per_execution` must be 1 with 2 replicas. Received: 4",
        "reduction": "`loss` must not average in each replica with 2 replicas; "
        "use TokenCrossEntropy. Received: reduction='mean_with_sample_weight'",
    }


def test_auto_without_accelerators_is_one_device(capsys):
    picked = devices.devices("auto")
    assert picked.name == "one_device"
    assert capsys.readouterr().out == "devices: one_device, 1 CPU\n"
    with picked.scope():
        assert devices.current() is None
        assert devices.replicas() == 1


def test_insisting_on_a_tpu_that_is_not_there():
    with pytest.raises(ValueError, match=r"^`devices` must be a TPU that initialises\. Received: "):
        devices.devices("tpu")


def test_an_unknown_choice():
    with pytest.raises(ValueError) as error:
        devices.devices("mirror")
    assert str(error.value) == (
        "`devices` must be a known name. Received: devices='mirror' (did you mean 'mirrored'?)"
    )
    for choice in ("fsdp:2", "fsdp", "model:2"):
        with pytest.raises(ValueError, match=r"with TensorFlow; JAX has the rest\. Received: "):
            devices.devices(choice)
