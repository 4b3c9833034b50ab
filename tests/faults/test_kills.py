"""A few kills, losses of power and pairs of commands; `python -m tests.faults --full` has more."""

import contextlib
import os
import signal
import threading
import time

import clients
import forks
import kills
import pairs
import pytest
import world as worlds


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys") / "world"
    worlds.make(folder)
    return folder


@pytest.fixture(scope="module")
def light():
    with forks.Server(light=True) as server:
        yield server


@pytest.fixture(scope="module")
def heavy():
    with forks.Server() as server:
        yield server


@pytest.mark.parametrize("power", [False, True], ids=["kills", "losses of power"])
def test_an_add_that_is_killed(world, light, tmp_path, power):
    chains = kills.Chains(worlds.BY_NAME["library add"], world, tmp_path, light)
    ended = [chains.chain(number, power, kills=4) for number in range(2)]
    assert sum(killed for killed, _ in ended) >= 3
    assert [wrong for _, wrong in ended if wrong] == []


@pytest.mark.slow
def test_a_run_that_loses_power(world, heavy, tmp_path):
    chains = kills.Chains(worlds.BY_NAME["train"], world, tmp_path, heavy, twice=False)
    assert chains.chain(0, power=True, kills=1) == (1, [])


@pytest.mark.slow
def test_a_study_that_is_told_to_end(world, heavy, tmp_path):
    """It saves, says so in one line and ends as a shell has it, as `train` does."""
    pid = heavy.start(
        worlds.BY_NAME["study run"].words(world), tmp_path, tmp_path / "o", eager=True
    )

    def stop():
        end = time.monotonic() + 60
        while not list(tmp_path.rglob("state.npz")) and time.monotonic() < end:
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    status, _ = heavy.wait(120)
    thread.join()
    assert status == 128 + signal.SIGTERM
    assert (tmp_path / "o").read_text().splitlines()[-1].startswith("stopped at step ")


def test_two_adds_at_once(world, light, tmp_path):
    with forks.Server(light=True) as other:
        both = pairs.Pairs(world, tmp_path, [light, other])
        add = worlds.BY_NAME["library add"]
        assert both.pair(add, add, delay=pairs.DELAY) == (["done", "done"], [])


@pytest.mark.slow
def test_clients_of_an_exported_model(world, heavy, tmp_path):
    words = worlds.BY_NAME["export"].words(world)
    assert heavy.run(words, tmp_path, tmp_path / "out.txt")[0] == 0
    asked = clients.ask(tmp_path / "out", 2, 4)
    assert (asked["count"], asked["errors"]) == (0, [])
    assert asked["requests"] > 10


@pytest.mark.slow
def test_a_server_has_one_thread(light, heavy):
    """More would not be in its forks, which could wait for them for ever."""
    assert (light.threads, heavy.threads) == (1, 1)
