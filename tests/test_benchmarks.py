"""The benchmark runner, with toy sizes."""

import doctest
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import cases, clients, flops, plot, products, report, results, settings, workload
from benchmarks.protocol import Skip, Worker, WorkerError

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONDITIONS = {"machine": {"processor": "X", "flags": ["avx2"], "memory": 2**30, "python": "3"}}
CONDITIONS |= {"threads": 2}


def run(output, *arguments, code=0):
    command = [sys.executable, "-m", "benchmarks", "--quick", "--anyway", "--output", str(output)]
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    actual = output / "results.json"
    return json.loads(actual.read_text())["measured"] if actual.exists() else None, done.stderr


@pytest.mark.slow  # starts the runner three times
def test_without_the_peer_and_on_from_where_it_ended(tmp_path):
    asked = ["--no-peer", "--part", "B=2 T=8 float32"]
    first, _ = run(tmp_path, *asked)
    assert list(first) == ["step: B=2 T=8 float32"]
    (measured,) = first.values()
    assert list(measured["sides"]) == ["ours", "ours, XLA"]
    sample = measured["sides"]["ours"]
    laps = settings.QUICK.rounds * settings.QUICK.laps
    assert len(sample["wall"]) == len(sample["cpu"]) == laps
    assert min(sample["wall"]) > 0
    assert measured["operations"]["ours"] == flops.training_step(
        settings.QUICK.shape, prompt=5, rows=2, tokens=8, targets=8
    )
    assert set(measured["gemm"]) == {"float32", "bfloat16"}

    more = ["--part", "--help", "--part", "kernels: gen"]
    second, _ = run(tmp_path, *asked, *more)
    assert second["step: B=2 T=8 float32"] == measured
    names = {"startup: keras-spot --help"}
    names |= {f"kernels: generation, B={rows}, 3 tokens" for rows in (1, 2)}
    assert set(second) - set(first) == names
    assert set(second["kernels: generation, B=1, 3 tokens"]["sides"]) == {"fast", "plain"}
    text = (tmp_path / "results.md").read_text()
    assert "| B=2 T=8 float32 |" in text
    assert "## startup" in text

    _, printed = run(tmp_path, *asked, "--threads", "1", code=2)
    assert "other sizes, cores or machine" in printed


def test_every_piece_of_the_fast_kernels_is_measured():
    from keras_spot.model.fast.forward import FastT5

    own = {name for name in vars(FastT5) if not name.startswith("_")}
    assert own - set(cases.kernels.PIECES) == {"cached_decoder"}  # by generation


@pytest.mark.slow  # four processes, each of which compiles a step
def test_an_accelerator_and_both_backends(tmp_path):
    """A CPU stands in for the accelerator: with toy sizes everything else is the same."""
    pytest.importorskip("jax", reason="the other backend")
    asked = ["--no-peer", "--part", "accelerator", "--part", "JAX against"]
    measured, printed = run(tmp_path, *asked)
    ours, *chips = measured.values()
    assert set(ours["sides"]) == {"jax", "tensorflow"}, printed
    modes = [list(modes) for modes in cases.accelerator.MODES.values()]
    assert [list(chip["sides"]) for chip in chips] == modes
    for chip in chips:
        losses = [float(note.split("loss ")[1]) for note in chip["notes"][1:]]
        np.testing.assert_allclose(losses, losses[0], rtol=1e-2)
        assert min(chip["gemm"]["bfloat16"].values()) > 0
        assert "of its own product" in chip["notes"][0]
    assert "| recomputed |" in (tmp_path / "results.md").read_text()


@pytest.mark.slow  # imports TensorFlow once more
def test_without_an_accelerator_its_case_is_skipped():
    worker = Worker("benchmarks.backend", environment={"CUDA_VISIBLE_DEVICES": "-1"})
    try:
        with pytest.raises(Skip, match=r"^tensorflow sees no accelerator, only CPU$"):
            worker.request("hello", kinds=["gpu", "tpu"])
    finally:
        worker.stop()


@pytest.mark.slow  # compiles a step for each size
def test_slopes(tmp_path):
    measured, printed = run(tmp_path, "--no-peer", "--part", "slopes: B, prompt")
    assert list(measured) == ["slopes: B, prompt"], printed


@pytest.mark.slow  # exports a model in five forms
def test_every_engine_answers_as_the_savedmodel(tmp_path):
    for name in ("ctranslate2", "onnx", "onnxruntime", "sentencepiece"):
        pytest.importorskip(name, reason="an engine")
    measured, printed = run(tmp_path, "--no-peer", "--only", "engines")
    assert list(measured) == ["engines: texts like a task's, 3 tokens, B=2"], printed
    (actual,) = measured.values()
    assert list(actual["sides"]) == [name for name, *_ in cases.engines.FORMS]
    for name, _, quantize in cases.engines.FORMS:
        assert f"{name}: 2 of 2 answers alike" in actual["notes"] or quantize


@pytest.mark.slow  # starts ten servers
def test_clients_of_every_engine():
    for name in ("ctranslate2", "onnx", "onnxruntime", "sentencepiece", "starlette", "peft"):
        pytest.importorskip(name, reason="an engine")
    command = [sys.executable, "-m", "benchmarks.clients", "--quick"]
    words = ["--requests", "16", "--prompts", "3"]
    done = subprocess.run([*command, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.split(" | ")[0].strip("| ") for line in done.stdout.splitlines()]
    assert {*clients.ENGINES, "PEFT, the same server"} < set(rows)
    for count in (1, 3):
        for engine in clients.HOLDS:
            assert f"| {engine} | {count} | " in done.stdout


@pytest.mark.slow  # imports TensorFlow and torch five times
def test_beside_the_peer(tmp_path):
    for name in ("torch", "transformers", "peft"):
        pytest.importorskip(name, reason="the peer")
    part = ["--part", "step: B=2 T=8 float32", "--part", "3 tokens, B=2 float32"]
    measured, printed = run(tmp_path, *part, "--peer-python", sys.executable)
    assert len(measured) == 2, printed
    sides = ["ours", "peer", "ours, XLA"]
    assert all(list(actual["sides"]) == sides for actual in measured.values())
    losses = measured["step: B=2 T=8 float32"]["losses"]
    np.testing.assert_allclose(losses["ours"], losses["peer"], rtol=1e-4)
    generated = measured["generate: 3 tokens, B=2 float32"]
    assert "same tokens" in generated["notes"][0]
    parts = ["encoding", "decoder's kernels", "logits", "attention"]
    assert list(generated["alone"]) == parts
    assert min(generated["alone"].values()) > 0
    (printed,) = re.findall(r"; products alone, .*", (tmp_path / "results.md").read_text())
    for part in parts:
        assert f"{part} " in printed
    assert " x faster if nothing else took time" in printed


def test_an_unknown_case(tmp_path):
    _, printed = run(tmp_path, "--only", "steps", code=2)
    assert "no case 'steps'" in printed


@pytest.fixture
def worker():
    made = Worker("echo", environment={"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"})
    yield made
    made.stop()


def test_a_worker(worker):
    assert worker.request("echo", value=[1, "ä"]) == [1, "ä"]
    with pytest.raises(WorkerError, match=r"^echo failed in 'fail': KeyError: 'reason'$"):
        worker.request("fail")
    with pytest.raises(Skip, match=r"^not here$"):
        worker.request("skip")
    assert worker.request("echo", value=2) == 2
    with pytest.raises(WorkerError, match=r"^echo ended with code 3 in 'die': .* \| last words$"):
        worker.request("die")
    assert not worker.alive
    with pytest.raises(WorkerError, match="ended with code 3"):
        worker.request("echo", value=2)


def test_operations_against_a_plain_count():
    shape = workload.Shape(layers=2, width=3, inner=5, heads=2, head_width=4, vocabulary=11)
    rows, prompt, tokens, targets = 2, 3, 4, 5
    length, inner = prompt + tokens, 8

    def linear(positions, m, n):  # forward, and the gradient by the input
        return 2 * (2 * positions * m * n)

    def attention(queries, keys):  # two products; each forward and two gradients
        return 2 * 3 * (2 * queries * keys * inner)

    encoder = 4 * linear(length, 3, inner) + 3 * linear(length, 3, 5) + attention(length, length)
    decoder = 6 * linear(targets, 3, inner) + 2 * linear(length, 3, inner)
    decoder += 3 * linear(targets, 3, 5) + attention(targets, targets) + attention(targets, length)
    head = linear(targets, 3, 11)
    expected = rows * (2 * (encoder + decoder) + head)
    assert flops.training_step(shape, prompt, rows, tokens, targets) == expected
    shared = flops.training_step(shape, prompt, rows, tokens, targets, shared=True)
    assert shared < expected
    # One row shares its prompt with nobody, but its prompt does not look at its tokens.
    saved = 2 * attention(prompt, tokens)
    alone = flops.training_step(shape, prompt, 1, tokens, targets)
    assert alone - flops.training_step(shape, prompt, 1, tokens, targets, shared=True) == saved


def test_operations_of_generation_against_a_plain_count():
    shape = workload.Shape(layers=2, width=3, inner=5, heads=2, head_width=4, vocabulary=11)
    rows, prompt, tokens, length, inner = 2, 3, 4, 5, 8
    keys = prompt + tokens

    def product(m, k, n):
        return 2 * m * k * n

    layer = 4 * product(keys, 3, inner) + 3 * product(keys, 3, 5) + 2 * product(keys, inner, keys)
    layer += 2 * product(keys, 3, inner)
    for position in range(1, length + 1):
        layer += 6 * product(1, 3, inner) + 3 * product(1, 3, 5)
        layer += 2 * product(1, inner, position) + 2 * product(1, inner, keys)
    expected = rows * (2 * layer + product(length, 3, 11))
    assert flops.generation(shape, prompt, rows, tokens, length) == expected

    def operations(prompt, tokens):
        actual = products.generation(shape, prompt, rows, tokens, length, absorbed=False)
        return sum(one.operations for one in actual)

    assert operations(0, keys) == expected
    # Before the first layer all rows have the same prompt.
    assert expected - operations(prompt, tokens) == 3 * product((rows - 1) * prompt, 3, inner)


def test_absorbed_products_take_fewer_operations_when_few_tokens_are_generated():
    def operations(length, absorbed):
        actual = products.generation(workload.Shape(), 100, 32, 64, length, absorbed)
        return sum(one.operations for one in actual)

    assert operations(7, absorbed=True) < operations(7, absorbed=False)
    assert operations(63, absorbed=True) > operations(63, absorbed=False)


@pytest.mark.parametrize("module", [flops, report])
def test_examples_in_docstrings(module):
    actual = doctest.testmod(module)
    assert actual.attempted > 0
    assert actual.failed == 0


def test_the_report():
    def side(*wall):
        return {"wall": list(wall), "cpu": list(wall)}

    gemm = {"float32": {"ours": 10.0, "peer": 8.0}}
    measured = {
        "step: B=1": {
            "sides": {"ours": side(1.0, 2.0, 4.0), "peer": side(4.0)},
            "target": 0.5,
            "precision": "float32",
            "operations": {"ours": 10**10},
            "gemm": gemm,
            "others": 0.5,
            "notes": ["said"],
        },
        "generate: g": {
            "sides": {"ours": side(0.001), "peer": side(0.0015)},
            "target": 2.0,
            "faster": True,
            "items": [3, "tokens"],
            "precision": "float32",
            "operations": {"ours": 5 * 10**6},
            "gemm": gemm,
        },
        "startup: s": {"sides": {"ours": side(0.25)}, "limit": 0.5},
        "memory: m": {
            "sides": {"ours": {"peak": [3e6], "before": [1e6], "life": [4e6]}},
            "target": 1.0,
            "unit": "bytes",
        },
        "slopes: T, full": {
            "letter": "T",
            "attention": "full",
            "values": [1, 2],
            "median": [0.01, 0.03],
            "min": [0.01, 0.03],
            "base": {"B": 4},
        },
    }
    content = {"conditions": CONDITIONS, "versions": {"keras": "3"}, "measured": measured}
    text = report.markdown(content, {key: key.partition(":")[0] for key in measured})
    for line in (
        "X (avx2), 2 cores for either side, 1 GB; Python 3, keras 3.",
        "| B=1 | 2 s (1 s) | peer: 4 s (4 s) | 0.50 | ≤ 0.5 | yes |",
        "| B=1 | ours | 3 | 2.00 | 5 | 50% | 0.25 |",
        "- B=1: said; **not alone: other processes used 50% as much CPU**",
        "| g | 1 ms (1 ms), 3e+03 tokens/s | peer: 1.5 ms (1.5 ms), 2e+03 tokens/s | "
        "1.50 x faster | ≥ 2 | **no** |",
        "| g | ours | 1 | 0.00 | 5 | 50% | 3.00 x faster |",
        "| s | 250 ms (250 ms) |  |  | ≤ 0.5 s | yes |",
        "| m | 3 MB (+2 in the steps) |  |  | ≤ 1 |  |",
        "| T: input tokens | full | T=1 10 ms, T=2 30 ms | 20 | -10 |",
    ):
        assert line in text.splitlines()


def test_the_picture(tmp_path):
    pytest.importorskip("matplotlib", reason="draws")
    measured = [
        {"letter": letter, "attention": attention, "values": [1, 2], "median": [0.1, 0.2]}
        for letter in "TB"
        for attention in ("full", "prompt")
    ]
    plot.slopes(measured, tmp_path / "slopes.png")
    assert (tmp_path / "slopes.png").read_bytes().startswith(b"\x89PNG")


def test_results_of_other_conditions_are_not_mixed(tmp_path):
    kept = results.Results(tmp_path, CONDITIONS)
    kept.add("step: B=1", {"sides": {}})
    assert list(results.Results(tmp_path, CONDITIONS).measured) == ["step: B=1"]
    with pytest.raises(ValueError, match="was measured with other sizes, cores or machine"):
        results.Results(tmp_path, {**CONDITIONS, "threads": 1})


def test_keys_are_unique_and_quick_has_every_case():
    for sizes in (settings.Settings(), settings.QUICK):
        actual = cases.parts(sizes, list(cases.CASES))
        assert len({part.key for part in actual}) == len(actual)
        assert {part.case for part in actual} == set(cases.CASES)
