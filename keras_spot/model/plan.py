"""What a training step needs of each chip: compiled for a topology, with no weights at all.

The step is the model's own, lowered by JAX over abstract weights and compiled by libtpu, ahead of
time and without a TPU, or by XLA for CPU where libtpu is not installed. Nothing of it is run.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from typing import Any

from keras_spot.backbones.converters.architecture import Architecture
from keras_spot.base import layouts
from keras_spot.base.errors import InvalidArgument, invalid, unknown

__all__ = [
    "CHIPS",
    "GIB",
    "SIZES",
    "Plan",
    "Request",
    "abstract",
    "architecture",
    "compile_step",
    "main",
    "plan",
    "size_of",
]

GIB = 2**30
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
_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}


@dataclasses.dataclass(frozen=True)
class Request:
    """What is planned.

    Attributes:
        backbone: a name that ends in one of `SIZES`, such as `"t5-xxl"`.
        topology: of libtpu, such as `"v5e:2x4"`, or `"cpu"`.
        devices: a layout, see `keras_spot.devices`.
        batch: B, rows of the whole batch.
        tokens: T, input tokens.
        targets: D, target tokens.
        prompt_length: P.
        prompt_attention: see `build`.
        remat: see `build`.
        dtype: dtype policy.
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
    dtype: str = "bfloat16"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one chip has to do and to hold in a training step.

    Attributes:
        compiled_for: the chip, or `"cpu"`.
        parameters: of the frozen backbone.
        arguments, temporaries, peak: bytes: weights and states; what the step keeps; both at their
            most, as the compiler tells.
        operations, traffic: of one step: floating-point operations and bytes moved.
        compile_seconds: how long the compiler took.
        bound_seconds: the least time that the chip's published speeds allow; None for a CPU.
        fits: whether the peak fits the chip's memory; None for a CPU.
    """

    compiled_for: str
    parameters: int
    arguments: int
    temporaries: int
    peak: int
    operations: float
    traffic: float
    compile_seconds: float
    bound_seconds: float | None
    fits: bool | None


def plan(request: Request) -> Plan:
    """Compile a request in a process of its own.

    Raises:
        InvalidArgument: an unknown size or chip, or a layout that the topology cannot hold.
        RuntimeError: the compiler failed; the message has the end of what it wrote.
    """
    size_of(request.backbone)
    if request.topology != "cpu":
        chip = request.topology.partition(":")[0]
        if chip not in CHIPS:
            raise unknown("topology", chip, [*CHIPS, "cpu"])
        if importlib.util.find_spec("libtpu") is None:
            rule = "must be 'cpu' without libtpu (pip install libtpu)"
            raise invalid("topology", rule, repr(request.topology))
    environment = {**os.environ, **_TPU, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    asked = json.dumps(dataclasses.asdict(request))
    command = [sys.executable, "-W", "ignore", "-c", f"import {__name__} as m; m.main()", asked]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 2:
        raise InvalidArgument(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        raise RuntimeError(f"the process that compiles failed: {done.stderr[-2000:]}")
    return Plan(**json.loads(done.stdout.splitlines()[-1]))


def size_of(backbone: str) -> str:
    """Return the size that a backbone's name ends in.

    >>> size_of("t5_1_1_lm100k_xxl"), size_of("t5-base")
    ('xxl', 'base')
    """
    last = re.split(r"[-_/]", backbone.removesuffix("-lm-adapt"))[-1]
    if last not in SIZES:
        raise unknown("backbone", backbone, [f"t5-{size}" for size in SIZES])
    return last


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


def abstract(request: Request) -> Any:
    """Return the compiled `PromptedT5` of a request; no weight of it has a value."""
    import keras
    import numpy as np

    from keras_spot.model.prompted_t5 import PromptedT5

    with keras.StatelessScope(initialize_variables=False):
        backbone = architecture(size_of(request.backbone)).build(request.dtype)
        model = PromptedT5(
            backbone,
            prompt_length=request.prompt_length,
            prompt_attention=request.prompt_attention,
            remat=request.remat,
            compile=False,
        )
    model.compile(jit_compile=True)
    model.forward_pass.plain.recomputes = not request.remat  # as on the chip
    model.optimizer.build(model.trainable_variables)
    shape = (request.batch, request.targets)
    # Keras' own way to build metrics would give every weight a value first.
    logits = keras.KerasTensor((*shape, backbone.vocabulary_size), "float32")
    model._compile_metrics.build(keras.KerasTensor(shape, "int32"), logits)
    assert np.prod(model.soft_prompt.prompt.shape) > 0
    return model


def compile_step(request: Request) -> Plan:
    """Lower and compile the training step of a request, in this process."""
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    if request.topology == "cpu":
        present: Any = jax.devices()
    else:
        from jax.experimental import topologies

        present = topologies.get_topology_desc(
            platform="tpu", topology_name=request.topology
        ).devices
    axes = layouts.parse(request.devices)
    sizes = layouts.resolve(
        request.devices, {layouts.DATA: 1} if axes is None else axes, len(present)
    )
    shape = sizes[layouts.DATA], sizes[layouts.MODEL]
    chips = np.array(present[: shape[0] * shape[1]]).reshape(shape)
    mesh = Mesh(chips, (layouts.DATA, layouts.MODEL))
    model = abstract(request)

    def place(variable: Any) -> Any:
        spec = PartitionSpec(*layouts.axes_of(variable.path))
        sharding = NamedSharding(mesh, spec)
        return jax.ShapeDtypeStruct(tuple(variable.shape), variable.dtype, sharding=sharding)

    state = tuple(
        [place(variable) for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    )
    rows = NamedSharding(mesh, PartitionSpec(layouts.DATA))

    def array(length: int, dtype: str = "int32") -> Any:
        return jax.ShapeDtypeStruct((request.batch, length), dtype, sharding=rows)

    x = {f"encoder_{name}": array(request.tokens) for name in ("token_ids", "padding_mask")}
    x |= {f"decoder_{name}": array(request.targets) for name in ("token_ids", "padding_mask")}
    data = x, array(request.targets), array(request.targets, "float32")
    lowered = jax.jit(model.train_step, donate_argnums=0).lower(state, data)
    began = time.monotonic()
    compiled = lowered.compile()
    seconds = time.monotonic() - began
    memory, costs = compiled.memory_analysis(), compiled.cost_analysis()
    held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    peak = int(getattr(memory, "peak_memory_in_bytes", 0) or held)
    chip = CHIPS.get(request.topology.partition(":")[0])
    operations, traffic = float(costs["flops"]), float(costs["bytes accessed"])
    return Plan(
        compiled_for="cpu" if request.topology == "cpu" else str(chips.flat[0].device_kind),
        parameters=sum(int(np.prod(v.shape)) for v in model.backbone.variables),
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        peak=peak,
        operations=operations,
        traffic=traffic,
        compile_seconds=round(seconds, 1),
        bound_seconds=None if chip is None else max(operations / chip[0], traffic / chip[1]),
        fits=None if chip is None else peak <= chip[2],
    )


def main() -> None:
    """Print the plan that `plan` of another process asked for."""
    from keras_spot.base.errors import USER_ERRORS

    try:
        made = compile_step(Request(**json.loads(sys.argv[1])))
    except USER_ERRORS as error:
        print(" ".join(str(error).splitlines()), file=sys.stderr, flush=True)
        os._exit(2)
    print(json.dumps(dataclasses.asdict(made)), flush=True)
    os._exit(0)  # libtpu's threads would wait for a TPU
