"""Two processes on loopback train what one does, and the first of them alone writes."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from keras_spot import devices
from keras_spot.base import errors, hosts
from keras_spot.prompts import read

HERE = pathlib.Path(__file__).parent
LAYOUTS = ("model:4", "fsdp:4")


def begin(folder, *layouts, **variables):
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)}
    env["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    env |= {f"KERAS_DISTRIBUTION_{name}": str(value) for name, value in variables.items()}
    command = [sys.executable, "-W", "ignore", str(HERE / "host.py"), str(folder), *layouts]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=env, **pipes)


def outcome(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.splitlines()[-1])


def test_two_processes_train_what_one_does(tmp_path):
    alone = begin(tmp_path / "alone", "one_device")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    # Their hosts share no disk.
    together = [
        begin(
            tmp_path / ("elsewhere" if number else "together"),
            "data",
            *LAYOUTS,
            JOB_ADDRESSES=address,
            NUM_PROCESSES=2,
            PROCESS_ID=number,
        )
        for number in range(2)
    ]
    one, two, three = map(outcome, (alone, *together))
    assert [each["name"] for each in (one, two, three)] == ["one_device", "data:4", "data:4"]
    assert [each["chief"] for each in (two, three)] == [True, False]
    assert two["prompt"] == three["prompt"]
    assert two["table"] == three["table"] == one["table"]
    assert one["quantized"] == two["quantized"] == three["quantized"]
    assert two["answers"] == three["answers"] == one["answers"]
    assert [each["stopping"] for each in (one, two, three)] == [None, 15, 15]  # one got it
    np.testing.assert_allclose(two["prompt"], one["prompt"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-5)
    assert two["others"] == three["others"]
    for layout in LAYOUTS:
        of_layout = two["others"][layout]
        np.testing.assert_allclose(of_layout["prompt"], one["prompt"], rtol=0, atol=1e-5)
        np.testing.assert_allclose(of_layout["losses"], one["losses"], rtol=1e-5)
    assert two["files"] == three["files"] == one["files"]
    assert len(two["files"]) >= 2
    assert not (tmp_path / "elsewhere").exists()
    rule = "`processes` must be the same command on each of them. Received:"
    unlike = [f"{rule} another with 1 differences", f"{rule} steps=5 beside 4"]
    assert [each.get("unlike") for each in (one, two, three)] == [None, *unlike]
    written = read(tmp_path / "together", 4).values
    np.testing.assert_array_equal(written, np.array(two["prompt"], "float32"))
    lines = (tmp_path / "together" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4]


def test_half_of_an_address_is_refused(monkeypatch):
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    with pytest.raises(errors.InvalidArgument, match=r"^`devices` must be set together: KERAS_"):
        devices("data")
    monkeypatch.setenv("KERAS_DISTRIBUTION_PROCESS_ID", "0")
    two = r"Received: KERAS_DISTRIBUTION_NUM_PROCESSES and KERAS_DISTRIBUTION_PROCESS_ID alone$"
    with pytest.raises(errors.InvalidArgument, match=two):
        devices("data")


def test_a_command_that_fails_does_not_wait_for_the_others(monkeypatch, keras_spot):
    ends = []

    def leave(code):
        ends.append(code)
        sys.exit(code)

    monkeypatch.setattr(hosts, "has_joined", lambda: True)
    monkeypatch.setattr(hosts, "part", lambda: ends.append("parted"))
    monkeypatch.setattr(os, "_exit", leave)
    code, _, err = keras_spot("evaluate", "--task", "nothing", "--prompt", "nowhere")
    assert (code, ends) == (2, ["parted", 2])
    assert err.startswith("error: ")


@pytest.mark.parametrize("name", ["MultiWorkerMirroredStrategy"])
def test_several_hosts_with_tensorflow_are_refused(name):
    from keras_spot.base import devices

    strategy = type(name, (), {"num_replicas_in_sync": 2})()
    with pytest.raises(ValueError, match=r"^`devices` must not be"):
        devices.devices(strategy)


def test_a_process_that_is_left_alone_says_so(monkeypatch):
    error = ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer\nmore")
    with pytest.raises(ValueError, match="Gloo"), hosts.needed():
        raise error
    monkeypatch.setattr(hosts, "processes", lambda: 2)
    message = r"^`processes` must all go on: .*\. Received: UNKNOWN: Gloo [^\n]+ by peer$"
    with pytest.raises(errors.Deserted, match=message), hosts.needed():
        raise error
    with pytest.raises(ValueError, match=r"^mine$"), hosts.needed():
        raise ValueError("mine")
