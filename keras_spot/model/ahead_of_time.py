"""A training step and a generation compiled ahead of time with JAX, over weights without values.

This is what the process of `plan.plan` runs, where libtpu or XLA for CPU may take minutes.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_spot.backbones import quantized
from keras_spot.base import meshes
from keras_spot.base.errors import USER_ERRORS, invalid
from keras_spot.model import plan as planning
from keras_spot.model.generate_functions import INPUTS
from keras_spot.model.operations import operations as count_operations
from keras_spot.model.plan import CHIPS, CPU, Cost, Request
from keras_spot.model.prompted_t5 import PromptedT5

__all__ = ["Programs", "abstract", "main", "mesh_of"]

_END = 1  # the token that ends an answer
# What the compiler says of a program that is too large, or of its temporaries alone.
_USED = re.compile(r"RESOURCE_EXHAUSTED.*?(?:Used |temporaries \()([0-9.]+)([GM])", re.DOTALL)


def abstract(request: Request) -> tuple[PromptedT5, int]:
    """Return the compiled `PromptedT5` of a request, and how many parameters its backbone has.

    No weight of it has a value.
    """
    with keras.StatelessScope(initialize_variables=False):
        backbone = planning.architecture(planning.size_of(request.backbone)).build(request.dtype)
        parameters = backbone.count_params()
        if request.quantize is not None:
            quantized.configure(backbone, request.quantize)
        model = PromptedT5(
            backbone,
            prompt_length=request.prompt_length,
            prompt_attention=request.prompt_attention,
            remat=request.remat,
            compile=False,
        )
    model.compile(jit_compile=True)
    model.forward_pass.plain.suit(accelerator=request.chip != CPU)
    model.optimizer.build(model.trainable_variables)
    shape = (request.batch, request.targets)
    # Keras' own way to build metrics would give every weight a value first.
    logits = keras.KerasTensor((*shape, backbone.vocabulary_size), "float32")
    model._compile_metrics.build(keras.KerasTensor(shape, "int32"), logits)
    return model, parameters


def mesh_of(request: Request) -> Any:
    """Return the `jax.sharding.Mesh` of a request, of a TPU's chips or of this host's CPUs."""
    import jax

    if request.for_cpu:
        present: Any = jax.devices()
    else:
        from jax.experimental import topologies

        try:
            name = request.topology
            present = topologies.get_topology_desc(platform="tpu", topology_name=name).devices
        except jax.errors.JaxRuntimeError as error:  # sides that a TPU's hosts cannot have
            rule = "must be one that libtpu knows"
            raise invalid("topology", rule, f"{request.topology} ({error})") from None
        if len(present) != request.chips:  # a v4's two cores are devices of their own here
            rule = "must be of chips that libtpu takes as one device each"
            raise invalid("topology", rule, f"{request.topology}, as {len(present)} devices")
    sizes = request.sizes
    chips = np.array(present[: math.prod(sizes.values())]).reshape(tuple(sizes.values()))
    return jax.sharding.Mesh(chips, tuple(sizes))


class Programs:
    """The programs of a request, traced over arrays that have shapes and places alone.

    Args:
        request: what is planned.

    Attributes:
        model, parameters: of `abstract`.
        mesh: `mesh_of`.
        compiled_for: the chip, or `"cpu"`.
    """

    def __init__(self, request: Request) -> None:
        self.request, self.mesh = request, mesh_of(request)
        self._rows_axis = meshes.batch_axis(request.sizes)
        self.model, self.parameters = abstract(request)
        self.model.forward_pass.plain.lay_out(self.mesh)
        self.compiled_for = str(self.mesh.devices.flat[0].device_kind)

    def step(self) -> Any:
        """Return the traced training step, as `fit` compiles it."""
        import jax

        model, request = self.model, self.request
        state = tuple(
            self._placed(variables)
            for variables in (
                model.trainable_variables,
                model.non_trainable_variables,
                model.optimizer.variables,
                model.metrics_variables,
            )
        )
        targets = self._rows(request.targets)
        x = dict(zip(INPUTS, [self._rows(request.tokens)] * 2 + [targets] * 2))
        data = x, targets, self._rows(request.targets, "float32")
        return jax.jit(model.train_step, donate_argnums=0).trace(state, data)

    def generation(self) -> Any:
        """Return the traced greedy generation of a batch."""
        import jax

        model, request = self.model, self.request

        def generate(state: Any, batch: Any) -> Any:
            with self._values(state):
                return model.generate_step(batch, (_END,))

        given = self._rows(request.targets + 1)
        batch = dict(zip(INPUTS, [self._rows(request.tokens)] * 2 + [given] * 2))
        return jax.jit(generate).trace(self._placed(model.variables), batch)

    def token(self) -> Any:
        """Return the traced step of one token within a generation."""
        import jax

        model, request = self.model, self.request
        length = request.targets + 1

        def decoder(states: Any, mask: Any) -> Any:
            return model.forward_pass.chosen.cached_decoder(states, mask, length)

        def cache(state: Any, states: Any, mask: Any) -> Any:
            with self._values(state):
                return decoder(states, mask).cache

        def decode(state: Any, states: Any, mask: Any, cache: Any, ids: Any, index: Any) -> Any:
            with self._values(state):
                x = model.backbone.token_embedding(ids)[:, 0]
                x, cache = decoder(states, mask).step(x, cache, index)
                logits = model.forward_pass.plain.logits(x)
                return keras.ops.argmax(logits, axis=-1), cache

        keys = request.prompt_length + request.tokens
        encoded = jax.ShapeDtypeStruct(
            (request.batch, keys, model.backbone.hidden_dim),
            model.backbone.compute_dtype,
            sharding=self._sharding(self._rows_axis),
        )
        given = self._placed(model.variables), encoded, self._rows(keys)
        kept = jax.tree.map(self._placed_cache, jax.eval_shape(cache, *given))
        index = jax.ShapeDtypeStruct((), "int32")
        return jax.jit(decode, donate_argnums=3).trace(*given, kept, self._rows(1), index)

    def _values(self, state: Any) -> keras.StatelessScope:
        return keras.StatelessScope(zip(self.model.variables, state))

    def _sharding(self, *axes: str | None) -> Any:
        import jax

        return jax.sharding.NamedSharding(self.mesh, jax.sharding.PartitionSpec(*axes))

    def _placed(self, variables: Any) -> list[Any]:
        import jax

        def placed(one: Any) -> Any:
            sharding = self._sharding(*meshes.axes_of(one.path, one.shape, self.request.sizes))
            return jax.ShapeDtypeStruct(tuple(one.shape), one.dtype, sharding=sharding)

        return [placed(one) for one in variables]

    def _placed_cache(self, array: Any) -> Any:
        """Return cached keys and values `[B, n, K, d]` dealt out by heads, others by rows."""
        import jax

        of_rows = array.shape[0] == self.request.batch
        axes: list[str | None] = [self._rows_axis if of_rows else None]
        if array.ndim == 4 and array.shape[1] % self.request.sizes[meshes.MODEL] == 0:
            axes += [meshes.MODEL]
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=self._sharding(*axes))

    def _rows(self, length: int, dtype: str = "int32") -> Any:
        import jax

        shape = self.request.batch, length
        return jax.ShapeDtypeStruct(shape, dtype, sharding=self._sharding(self._rows_axis))


def cost(request: Request, traced: Any, token: Any = None) -> Cost:
    """Compile a traced program and return what it costs a chip.

    Args:
        request: what is planned.
        traced: the program.
        token: of a generation, one round of its loop. The compiler counts the bytes of one.
    """
    rounds = 1 if token is None else request.targets
    chips = math.prod(request.sizes.values())
    operations = count_operations(traced.jaxpr.jaxpr, rounds) / chips
    lowered = traced.lower()
    began = time.monotonic()
    try:
        compiled = lowered.compile()
        one_more = None if token is None else token.lower().compile()
    except Exception as error:
        used = _USED.search(str(error))
        if used is None:
            raise
        seconds = round(time.monotonic() - began, 1)
        return Cost(None, None, _bytes(*used.groups()), operations, None, seconds, None, fits=False)
    seconds = round(time.monotonic() - began, 1)
    memory, traffic = compiled.memory_analysis(), float(compiled.cost_analysis()["bytes accessed"])
    if one_more is not None:
        traffic += (rounds - 1) * float(one_more.cost_analysis()["bytes accessed"])
    held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    # XLA for CPU leaves out of its peak what the program keeps meanwhile.
    told = 0 if request.for_cpu else getattr(memory, "peak_memory_in_bytes", 0)
    peak = int(told or held)
    chip = CHIPS.get(request.chip)
    return Cost(
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        peak=peak,
        operations=operations,
        traffic=traffic,
        compile_seconds=seconds,
        bound_seconds=None if chip is None else max(operations / chip[0], traffic / chip[1]),
        fits=None if chip is None else peak <= chip[2],
    )


def _bytes(number: str, unit: str) -> int:
    """Return a size in bytes.

    >>> _bytes("21.5", "G") == 21.5 * 2**30
    True
    """
    return int(float(number) * (planning.GIB if unit == "G" else 2**20))


def messages(request: Request, parts: list[str]) -> Iterator[dict[str, Any]]:
    """Yield what is being done, and at the end the plan, as `plan.plan` reads them."""
    yield {"stage": "building"}
    programs = Programs(request)
    costs = {}
    if "step" in parts:
        yield {"stage": "compiling the training step"}
        costs["step"] = cost(request, programs.step())
    if "generation" in parts:
        yield {"stage": "compiling the generation"}
        costs["generation"] = cost(request, programs.generation(), programs.token())
    made = planning.Plan(programs.compiled_for, programs.parameters, costs)
    yield {"plan": dataclasses.asdict(made)}


def main() -> None:
    """Answer the `plan.plan` of another process with JSON lines; end when that ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # where libraries print

    def say(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=answers, flush=True)

    threading.Thread(target=_end_with_reader, daemon=True).start()
    try:
        given, parts = json.loads(sys.argv[1])
        for message in messages(Request(**given), parts):
            say(message)
    except USER_ERRORS as error:
        say({"error": " ".join(str(error).splitlines())})
    except Exception:
        traceback.print_exc()
    os._exit(0)  # libtpu's threads would wait for a TPU


def _end_with_reader() -> None:
    sys.stdin.read()
    os._exit(1)
