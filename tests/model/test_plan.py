"""Plans: requests are checked before anything is compiled; toys are compiled where JAX is."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from keras_spot import errors
from keras_spot.model import largest_batch
from keras_spot.model import plan as planning
from keras_spot.model.plan import CHIPS, Cost, Plan, Request

WRONG = [
    (["--backbone", "t5-giant"], "`backbone` must be a known name"),
    (["--backbone", "bert-base"], "`backbone` must be a known name"),
    (["--topology", "v7:2x2"], "`topology` must be a known name"),
    (["--topology", "v5e"], "`topology` must have 2 sides of v5e, as in v5e:2x2. Received: 'v5e'"),
    (["--topology", "v5p:2x2"], "`topology` must have 3 sides of v5p, as in v5p:2x2x1"),
    (["--devices", "mirored"], "`devices` must be a known name"),
    (["--devices", "model:8"], "`devices` must suit the 4 devices there are. Received: 'model:8'"),
    (["--devices", "model:3"], "`devices` must deal out the inner width evenly over model"),
    (
        ["--devices", "fsdp:5", "--topology", "cpu", "--batch", "5"],
        "the hidden width evenly over fsdp",
    ),
    (["--devices", "data:2,fsdp:2"], "`devices` must deal out batches over one axis, data or fsdp"),
    (["--devices", "data:3", "--batch", "8"], "`batch` must be dealt out evenly by"),
    (["--batch", "0"], "`batch` must be a positive integer. Received: batch=0"),
    (["--batch", "8", "--batch", "8"], "`batch` must be different numbers"),
    (["--tokens", "-1"], "`tokens` must be a positive integer. Received: tokens=-1"),
    (["--targets", "0"], "`targets` must be a positive integer"),
    (["--prompt-length", "0"], "`prompt_length` must be a positive integer"),
    (["--prompt-attention", "fulll"], "(did you mean 'full'?)"),
    (["--quantize", "int5"], "`quantize` must be a known name"),
    (["--dtype", "float16"], "`dtype` must be a known name"),
    (["--topology", "cpu", "--largest"], "`largest` must be asked of a TPU's topology"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=lambda value: " ".join(value)[:40])
def test_mistakes_end_at_once_with_one_line(keras_spot, words, message):
    began = time.monotonic()
    code, out, err = keras_spot("plan", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert time.monotonic() - began < 5  # seconds; nothing was built


def test_names_and_places():
    for name in ("t5-xxl", "t5_1_1_lm100k_xxl", "t5-xxl-lm-adapt", "google/t5-v1_1-xxl"):
        assert planning.size_of(name) == "xxl"
    for name in ("mt5-base", "t5-base-v2", "t5", "xxl"):
        with pytest.raises(errors.InvalidArgument):
            planning.size_of(name)
    assert Request(topology="v5e:4x4", devices="data,model:8").sizes == {"data": 2, "model": 8}
    assert Request(topology="cpu", devices="data:2,model:4").sizes == {"data": 2, "model": 4}
    assert Request(topology="v5p:2x2x1", devices="model").sizes == {"data": 1, "model": 4}
    assert Request(topology="v5e:4x4", devices="fsdp,model:4").sizes == {"fsdp": 4, "model": 4}


def costs(peak, room):
    fits = peak <= room
    return {"step": Cost(1, 1, peak, 1.0, 1.0, 1.0, 1.0, fits)}


@pytest.mark.parametrize("begin", [4, 256])
@pytest.mark.parametrize("bend", [0.0, 0.02])
def test_the_largest_batch_is_one_that_was_compiled(monkeypatch, begin, bend):
    room, tried = CHIPS["v5e"][2], []

    def compiled(request, parts, report):
        tried.append(request.batch)
        peak = int((2 + 0.1 * request.batch ** (1 + bend)) * planning.GIB)
        return Plan("v5e", 1, costs(peak, room))

    monkeypatch.setattr(largest_batch, "plan", compiled)
    request = Request(devices="data:2", batch=begin)
    best = largest_batch.largest(request, compiled(request, (), None))
    assert len(tried) <= 5
    assert best.batch in tried
    assert best.cost.fits
    assert best.batch % 2 == 0
    exact = (140.0) ** (1 / (1 + bend))
    assert 0.9 * exact < best.batch <= exact
    assert best.too_large is None or best.too_large > best.batch


def test_without_libtpu_it_is_compiled_for_the_cpu_and_said_so(keras_spot, monkeypatch):
    room = CHIPS["v5e"][2]
    monkeypatch.setattr(planning, "has_compiler", lambda: False)
    made = Plan("cpu", 5, {**costs(room // 2, room), "generation": costs(2 * room, room)["step"]})
    monkeypatch.setattr(planning, "plan", lambda request, report: report("building") or made)
    code, out, err = keras_spot("plan", "--batch", "4", "--batch", "8")
    assert code == 0
    note, *stages = err.splitlines()
    assert note.startswith("libtpu is not installed (pip install 'keras-spot[tpu]'): compiled for ")
    assert stages == [f"t5-base, batch {batch}: building" for batch in (4, 8)]
    rows = [line.replace("│", "").split() for line in out.splitlines() if "│" in line]
    assert [row[:2] for row in rows[-4:]] == [[p, b] for b in "48" for p in ("step", "answer")]
    assert [row[4] for row in rows[-4:]] == ["8.00", "32.00!"] * 2
    assert "compiled for cpu, not run" in out
    code, out, _ = keras_spot("plan", "--batch", "4", "--json")
    record = json.loads(out)
    assert (record["batch"], record["compiled_for"]) == (4, "cpu")
    assert record["costs"]["generation"]["fits"] is False
    layout = ("--backbone", "t5-small", "--devices", "model:4", "--json")
    code, _, err = keras_spot("plan", "--batch", "4", *layout)
    assert code == 0
    assert "\n6 heads do not divide by model:4: " in err


def test_without_jax_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.MissingExtra) as error:
        planning.plan(Request())
    assert str(error.value) == "jax is not installed: pip install 'keras-spot[tpu]'"


# === Compiled ===

WIDTH, INNER, FEED, VOCABULARY = 64, 2 * 64, 96, 32128
SETUP = f"""
import json, re, sys
from keras_spot.model import plan as planning
planning.SIZES["small"] = ({WIDTH}, 1, {INNER // 64}, {FEED})
from keras_spot.model import ahead_of_time
given = json.loads(sys.argv[1])
"""


def environment():
    given = {**os.environ, **planning.WITHOUT_A_TPU, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    flag = "--xla_force_host_platform_device_count=4"
    return {**given, "PYTHONPATH": os.pathsep.join(sys.path), "XLA_FLAGS": flag}


def compiled(program, **options):
    """Return the last line of a program in a process of its own that has a toy for T5 small."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("needs jax, which is not installed")
    asked = json.dumps({"backbone": "t5-small", "batch": 4, "tokens": 24, **options})
    command = [sys.executable, "-W", "ignore", "-c", SETUP + program, asked]
    run = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


def test_toys_are_planned():
    several = """
def plan_of(*parts, **changes):
    request = planning.Request(**{**given, **changes})
    *_, last = ahead_of_time.messages(request, parts)
    return last["plan"]
def weights(mode):
    model, _ = ahead_of_time.abstract(planning.Request(**given, quantize=mode))
    import numpy as np
    return sum(int(np.prod(v.shape)) * np.dtype(v.dtype).itemsize for v in model.backbone.weights)
def gathered(**changes):
    lowered = ahead_of_time.Programs(planning.Request(**{**given, **changes})).step().lower()
    shapes = re.findall(r"f32(\\[[0-9,]+\\])\\S* all-gather", lowered.compile().as_text())
    return sorted(set(shapes)), lowered.as_text().count("optimization_barrier")
print(json.dumps({
    "one": plan_of("step", "generation"), "longer": plan_of("generation", targets=20),
    "spread": plan_of("step", devices="fsdp:2,model:2", prompt_attention="prompt",
                      quantize="int8"),
    "weights": [weights(mode) for mode in (None, "int8", "int4")],
    "gathered": gathered(devices="fsdp:4"),
}))
"""
    made = compiled(several, topology="cpu", targets=4, dtype="float32", prompt_length=8)
    one = made["one"]
    projections = (4 + 8) * WIDTH * INNER + 2 * 3 * WIDTH * FEED
    small = one["parameters"] - projections - 2 * VOCABULARY * WIDTH  # norms, relative biases
    assert 0 < small < 2000
    for cost in one["costs"].values():
        assert cost["arguments"] > 4 * one["parameters"]
        assert cost["peak"] == cost["arguments"] + cost["temporaries"]
        assert cost["traffic"] > cost["arguments"]
        assert cost["fits"] is cost["bound_seconds"] is None
    # The head, by far the largest product: there and back in training, once for each token.
    head = 2 * 4 * WIDTH * VOCABULARY
    step, generation = (one["costs"][part]["operations"] for part in planning.PARTS)
    assert 2 * 4 * head < step < 2.5 * 4 * head
    assert 4 * head < generation < 5.2 * head
    longer = made["longer"]["costs"]["generation"]
    assert 16 * head < longer["operations"] - generation < 17 * head
    kernel = 4 * WIDTH * VOCABULARY
    assert longer["traffic"] - one["costs"]["generation"]["traffic"] > 16 * kernel
    spread = made["spread"]["costs"]["step"]
    assert 0.2 * step < spread["operations"] < 0.3 * step
    assert 0.2 < spread["arguments"] / one["costs"]["step"]["arguments"] < 0.3
    shapes, barriers = made["gathered"]
    # Matrices, once for each way, and no states of other devices' rows.
    assert f"[{WIDTH},{VOCABULARY}]" in shapes
    assert not [shape for shape in shapes if shape.startswith("[4,")], shapes
    assert barriers >= 9
    whole, int8, int4 = made["weights"]
    assert whole - int8 == pytest.approx(3 * projections, rel=0.1)
    # Two numbers in a byte, but a scale and a zero for each 32 rows of a column.
    assert int8 - int4 == pytest.approx((0.5 - 5 / 32) * projections, rel=0.2)


def test_what_is_computed_again_saves_memory():
    """Barriers stand in the lowered step; a TPU's compiler, where it is, heeds them."""
    program = """
programs = ahead_of_time.Programs(planning.Request(**given))
seen = {}
for name, accelerator in (("kept", False), ("again", True)):
    programs.model.forward_pass.plain.suit(accelerator)
    lowered = programs.step().lower()
    count = lowered.as_text().count("optimization_barrier")
    memory = lowered.compile().memory_analysis()
    seen[name] = count, memory.temp_size_in_bytes, memory.peak_memory_in_bytes
print(json.dumps(seen))
"""
    on_tpu = planning.has_compiler()
    # What is small never leaves a TPU's inner memory.
    sizes = {"topology": "v5e:2x2", "batch": 64, "tokens": 512} if on_tpu else {"topology": "cpu"}
    seen = compiled(program, **sizes)
    assert seen["kept"][0] == 0
    # Norms, activations and attentions of an encoder's and a decoder's layer, the last norms and
    # the loss; what the decoder does before it sees the prompt is not differentiated.
    assert seen["again"][0] >= (2 + 1 + 1) + (3 + 1 + 1) + 3 - 3
    temporaries, peak = (seen["again"][i] / seen["kept"][i] for i in (1, 2))
    if on_tpu:
        assert temporaries < 0.9
        assert peak < 0.75
    else:  # XLA for CPU drops the barriers, so that nothing is computed again there
        assert temporaries > 0.9


TOO_LARGE = {
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries "
    "(21.92G) exceeds available HBM (15.75G).": 21.92,
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. "
    "Used 17.50G of 15.75G hbm. Exceeded hbm capacity by 1.75G.": 17.5,
    "RESOURCE_EXHAUSTED: something else": None,
    "INTERNAL: Used 17.50G of luck": None,
}


def test_what_does_not_fit_is_no_failure():
    program = f"""
class Traced:
    jaxpr = type("Closed", (), {{"jaxpr": type("Empty", (), {{"eqns": []}})}})
    def lower(self):
        return self
    def compile(self):
        raise RuntimeError(self.text)
made = []
for Traced.text in {list(TOO_LARGE)!r}:
    try:
        cost = ahead_of_time.cost(planning.Request(batch=8), Traced())
        made.append([round(cost.peak / planning.GIB, 2), cost.fits, cost.traffic])
    except RuntimeError as error:
        made.append(None)
print(json.dumps(made))
"""
    made = compiled(program)
    assert made == [size and [size, False, None] for size in TOO_LARGE.values()]


@pytest.mark.parametrize(
    ("topology", "rule"),
    [
        ("v5e:3x3", "one that libtpu knows"),
        ("v4:2x2x1", "of chips that libtpu takes"),
    ],
)
def test_a_topology_that_libtpu_has_otherwise_is_refused(topology, rule):
    if not planning.has_compiler():
        pytest.skip("needs libtpu, which is not installed")
    request = planning.Request(backbone="t5-small", topology=topology)
    with pytest.raises(ValueError, match=rf"^`topology` must be {rule}.*{topology}"):
        planning.plan(request)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whoever_stops_it_leaves_no_process(number):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("needs jax, which is not installed")
    words = ["plan", "--backbone", "t5-xxl", "--topology", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_spot", *words],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr.readline() == "t5-xxl, batch 32: building\n"
    children = f"/proc/{process.pid}/task/{process.pid}/children"
    with open(children) as file:
        (child,) = map(int, file.read().split())
    process.send_signal(number)
    process.wait(timeout=20)
    process.stderr.close()
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    for _ in range(200):
        if not os.path.exists(f"/proc/{child}"):
            break
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{child}")
