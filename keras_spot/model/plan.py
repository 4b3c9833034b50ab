"""What training and generation need of each chip: compiled for a topology, with no weights at all.

The programs are the model's own; a process of its own lowers and compiles them, see
`ahead_of_time`. Nothing of them is run.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence

from keras_spot.backbones.converters.architecture import Architecture
from keras_spot.base import meshes
from keras_spot.base.choices import PROMPT_ATTENTION, QUANTIZE
from keras_spot.base.errors import InvalidArgument, check_installed, invalid, unknown
from keras_spot.base.fields import POSITIVE

__all__ = [
    "CHIPS",
    "CPU",
    "GIB",
    "PARTS",
    "SIZES",
    "WITHOUT_A_TPU",
    "Cost",
    "Plan",
    "Request",
    "architecture",
    "has_compiler",
    "plan",
    "size_of",
]

GIB = 2**30
CPU = "cpu"
PARTS = ("step", "generation")
# Hidden width, layers of each stack, heads, inner width of T5 1.1.
SIZES = {
    "small": (512, 8, 6, 1024),
    "base": (768, 12, 12, 2048),
    "large": (1024, 24, 16, 2816),
    "xl": (2048, 24, 32, 5120),
    "xxl": (4096, 24, 64, 10240),
}
# Of a chip: bfloat16 operations a second, bytes a second, bytes of memory (Google's own figures).
CHIPS = {
    "v4": (275e12, 1228e9, 32 * GIB),
    "v5e": (197e12, 819e9, 16 * GIB),
    "v5p": (459e12, 2765e9, 95 * GIB),
    "v6e": (918e12, 1640e9, 32 * GIB),
}
_SIDES = {"v4": 3, "v5e": 2, "v5p": 3, "v6e": 2}
_NAMES = re.compile(r"(.*/)?(flan-)?t5([-_.](v?1[-_.]1|lm100k))*[-_](?P<size>[a-z]+)(-lm-adapt)?")
_DTYPES = ("bfloat16", "mixed_bfloat16", "float32")
# Variables that keep libtpu from looking for a TPU, and from refusing a second process.
WITHOUT_A_TPU = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}


@dataclasses.dataclass(frozen=True)
class Request:
    """What is planned.

    Attributes:
        backbone: the name of a T5 1.1, such as `"t5-xxl"`.
        topology: of libtpu, such as `"v5e:2x4"`, or `"cpu"`.
        devices: `"one_device"` or a layout, see `keras_spot.devices`.
        batch: B, rows of the whole batch.
        tokens: T, input tokens.
        targets: D, target tokens, and tokens to generate.
        prompt_length: P.
        prompt_attention: see `build`.
        remat: see `build`.
        quantize: see `build`.
        dtype: dtype policy.

    Raises:
        InvalidArgument: an unknown name, a size that is no positive integer, or a layout that the
            topology, the batch or the backbone cannot be dealt out by.
    """

    backbone: str = "t5-base"
    topology: str = "v5e:2x2"
    devices: str = "one_device"
    batch: int = 32
    tokens: int = 512
    targets: int = 16
    prompt_length: int = 100
    prompt_attention: str = "full"
    remat: bool = False
    quantize: str | None = None
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        size = size_of(self.backbone)
        for name in ("batch", "tokens", "targets", "prompt_length"):
            value = getattr(self, name)
            if not POSITIVE.holds(value):
                raise invalid(name, POSITIVE.text, f"{name}={value}")
        if self.prompt_attention not in PROMPT_ATTENTION:
            raise unknown("prompt_attention", self.prompt_attention, PROMPT_ATTENTION)
        if self.quantize is not None and self.quantize not in QUANTIZE:
            raise unknown("quantize", self.quantize, QUANTIZE)
        if self.dtype not in _DTYPES:
            raise unknown("dtype", self.dtype, _DTYPES)
        sizes = self.sizes
        if self.batch % sizes[meshes.batch_axis(sizes)]:
            rule = f"must be dealt out evenly by devices={self.devices!r}"
            raise invalid("batch", rule, f"batch={self.batch}")
        of_backbone = architecture(size)
        sides = {
            "heads' width": (meshes.MODEL, of_backbone.num_heads * of_backbone.head_dim),
            "inner width": (meshes.MODEL, of_backbone.intermediate_dim),
            "vocabulary": (meshes.MODEL, of_backbone.vocabulary_size),
            "hidden width": (meshes.FSDP, of_backbone.hidden_dim),
        }
        meshes.check_sides(sides, sizes)

    @property
    def for_cpu(self) -> bool:
        """Whether it is compiled for the CPU: because it is asked for, or for want of libtpu."""
        return self.topology == CPU or not has_compiler()

    @property
    def slow(self) -> str | None:
        """What is slow of the layout, None for nothing; see `meshes.uneven_heads`."""
        return meshes.uneven_heads(architecture(size_of(self.backbone)).num_heads, self.sizes)

    @property
    def chip(self) -> str:
        """The chip's name, `"cpu"` for none."""
        return self.topology.partition(":")[0]

    @property
    def chips(self) -> int | None:
        """How many chips the topology has, None for a CPU, which has as many as are asked for."""
        return _chips(self.topology)

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of the mesh's axes, that of batches first, then that of the model."""
        axes = {meshes.DATA: 1} if self.devices == "one_device" else meshes.parse(self.devices)
        if axes is None:
            known = ["one_device", "data", "fsdp", "model", "model:8", "data:2,model:4"]
            raise unknown("devices", self.devices, known)
        given = math.prod(size for size in axes.values() if size)
        return meshes.resolve(self.devices, axes, self.chips or given)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one chip has to do and to hold in a program; None for what is not known.

    Attributes:
        arguments, temporaries, peak: bytes: weights, states and the batch; what the program keeps
            meanwhile; both at their most, as the compiler tells, and for a CPU their sum.
        operations: floating-point operations of all matrix products.
        traffic: bytes moved, as the compiler tells.
        compile_seconds: how long the compiler took.
        bound_seconds: the least time that the chip's published speeds allow.
        fits: whether the chip's memory holds it.
    """

    arguments: int | None
    temporaries: int | None
    peak: int
    operations: float
    traffic: float | None
    compile_seconds: float
    bound_seconds: float | None
    fits: bool | None


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one chip has to do and to hold.

    Attributes:
        compiled_for: the chip, or `"cpu"`.
        parameters: of the frozen backbone.
        costs: of `"step"`, a training step, and of `"generation"`: D tokens, greedily, with cached
            keys and values.
    """

    compiled_for: str
    parameters: int
    costs: dict[str, Cost]


def has_compiler() -> bool:
    """Return whether libtpu is installed, which compiles for a TPU."""
    return importlib.util.find_spec("libtpu") is not None


def plan(
    request: Request,
    parts: Sequence[str] = PARTS,
    report: Callable[[str], object] = lambda stage: None,
) -> Plan:
    """Compile a request in a process of its own; without libtpu it is compiled for the CPU.

    Args:
        request: what is planned.
        parts: of `PARTS`. Default: both.
        report: called with what is being done, as it begins.

    Raises:
        MissingExtra: JAX is not installed.
        RuntimeError: the compiler failed; the message has the end of what it wrote.
    """
    check_installed("tpu", "jax")
    environment = {**os.environ, **WITHOUT_A_TPU, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    if request.for_cpu:
        count = f"--xla_force_host_platform_device_count={math.prod(request.sizes.values())}"
        environment["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {count}".strip()
    words = json.dumps([dataclasses.asdict(request), list(parts)])
    program = "from keras_spot.model import ahead_of_time; ahead_of_time.main()"
    command = [sys.executable, "-W", "ignore", "-c", program, words]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,  # that it ends tells the process that nobody waits for it
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        made = None
        try:
            for line in process.stdout or ():
                message = json.loads(line)
                made = message.get("plan", made)
                if "stage" in message:
                    report(message["stage"])
                if "error" in message:
                    raise InvalidArgument(message["error"])
            process.wait()
        finally:
            process.kill()
            process.communicate()
        if made is None:
            log.seek(0)
            text = log.read().decode(errors="replace")
            raise RuntimeError(f"the process that compiles failed: {text[-2000:]}")
    costs = {part: Cost(**cost) for part, cost in made["costs"].items()}
    return Plan(made["compiled_for"], made["parameters"], costs)


def size_of(backbone: str) -> str:
    """Return the size that a T5 1.1's name ends in.

    >>> size_of("t5_1_1_lm100k_xxl"), size_of("google/t5-v1_1-base"), size_of("t5-xl-lm-adapt")
    ('xxl', 'base', 'xl')
    """
    match = _NAMES.fullmatch(backbone)
    if match is None or match["size"] not in SIZES:
        raise unknown("backbone", backbone, [f"t5-{size}" for size in SIZES])
    return match["size"]


def architecture(size: str) -> Architecture:
    """Return the T5 1.1 of a size."""
    width, layers, heads, inner = SIZES[size]
    return Architecture(
        vocabulary_size=32128,
        hidden_dim=width,
        encoder_layers=layers,
        decoder_layers=layers,
        num_heads=heads,
        head_dim=64,
        intermediate_dim=inner,
        activation="gelu_new",
        gated=True,
        tied=False,
    )


def _chips(topology: str) -> int | None:
    """Return how many chips a topology has, None for a CPU, which has as many as are asked for."""
    if topology == CPU:
        return None
    chip, _, shape = topology.partition(":")
    if chip not in CHIPS:
        raise unknown("topology", topology, [*(f"{c}:{_example(c)}" for c in CHIPS), CPU])
    if not re.fullmatch(r"[1-9][0-9]{0,3}" + r"x[1-9][0-9]{0,3}" * (_SIDES[chip] - 1), shape):
        rule = f"must have {_SIDES[chip]} sides of {chip}, as in {chip}:{_example(chip)}"
        raise invalid("topology", rule, repr(topology))
    return math.prod(int(side) for side in shape.split("x"))


def _example(chip: str) -> str:
    return "x".join(["2", "2", "1"][: _SIDES[chip]])
