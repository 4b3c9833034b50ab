"""How JAX spreads a T5 over devices: a mesh, a layout of every matrix, and its check."""

from __future__ import annotations

import contextlib
import functools
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_spot.base.errors import unsuitable
from keras_spot.base.meshes import FSDP, MODEL, axes_of, batch_axis, matrices, uneven_heads
from keras_spot.base.reading.arrays import plain_dtype
from keras_spot.base.reading.parts import shifted, within
from keras_spot.base.types import Sliceable

__all__ = [
    "T5Parallel",
    "between_layers",
    "check_even",
    "check_sharded",
    "current_mesh",
    "dealt_out",
    "distribution",
    "fetched",
    "gathered",
    "layout_map",
    "name_of",
    "no_scope",
    "picked",
    "placed",
    "reshard_after_forward",
    "rows_at_once",
    "scope",
    "settle",
    "spans_hosts",
]

# Small: the relative biases, and the scales of quantised kernels.
_REPLICATED = re.compile(r"(.*/)?(self_attention/embeddings|kernel_(scale|zero))")


def distribution(sizes: Mapping[str, int], devices: Iterable[Any]) -> Any:
    """Return the `keras.distribution.Distribution` of a mesh of those sizes, see `resolve`."""
    shape = tuple(sizes.values())
    names = [f"{device.platform}:{device.id}" for device in devices][: math.prod(shape)]
    mesh = keras.distribution.DeviceMesh(shape, list(sizes), names)
    of_rows = batch_axis(sizes)
    return T5Parallel(layout_map=layout_map(mesh), batch_dim_name=of_rows, auto_shard_dataset=False)


def layout_map(mesh: Any) -> Any:
    """Return the `keras.distribution.LayoutMap` of a T5.

    Args:
        mesh: a `keras.distribution.DeviceMesh` with the axes `"data"` or `"fsdp"` and `"model"`.
    """
    layouts = keras.distribution.LayoutMap(mesh)
    for path, axes in matrices(mesh.axis_names).items():
        layouts[path] = axes
    return layouts


class T5Parallel(keras.distribution.ModelParallel):
    """A `keras.distribution.ModelParallel` that says which size does not fit the mesh.

    Raises:
        UnsuitableDevices: as a variable is made, one whose side cannot be dealt out evenly.
    """

    def get_variable_layout(self, variable: Any) -> Any:
        mesh = self.device_mesh
        sizes = dict(zip(mesh.axis_names, mesh.shape))
        layout = super().get_variable_layout(variable)
        of_blocks = axes_of(variable.path, variable.shape, sizes)
        if any(of_blocks) and not any(getattr(layout, "axes", [True])):
            layout = keras.distribution.TensorLayout(of_blocks, mesh)
        for side, axis in zip(variable.shape, getattr(layout, "axes", ())):
            if axis is not None and side % sizes[axis]:
                rule = f"must deal out {variable.path} evenly over {axis}"
                raise unsuitable(rule, f"{axis}:{sizes[axis]} for {side}")
        return layout


def name_of(distribution: Any) -> str:
    """Return the words that a layout is picked by, of others the class' name."""
    if not isinstance(distribution, T5Parallel):
        return type(distribution).__name__
    mesh = distribution.device_mesh
    sizes = zip(mesh.axis_names, mesh.shape)
    return ",".join(f"{axis}:{size}" for axis, size in sizes if size > 1) or "one_device"


def check_even(variables: Iterable[Any]) -> None:
    """Raise UnsuitableDevices where the present layout cannot deal a variable out evenly."""
    present = keras.distribution.distribution()
    if isinstance(present, T5Parallel):
        for variable in variables:
            present.get_variable_layout(variable)


def check_sharded(variables: Iterable[Any], heads: int = 0) -> None:
    """Raise where a matrix is not spread over every axis of a mesh that spreads matrices.

    Heads that do not divide by the model axis are slow: a `UserWarning` tells.

    Args:
        variables: a backbone's. Vectors, relative biases and scales of kernels are meant to.
        heads: the backbone's. Default 0: they are not looked at.

    Raises:
        UnsuitableDevices: such a matrix, by its path.
    """
    current = keras.distribution.distribution()
    if not isinstance(current, keras.distribution.ModelParallel):
        return
    sizes = dict(zip(current.device_mesh.axis_names, current.device_mesh.shape))
    over = {axis: sizes[axis] for axis in (FSDP, MODEL) if sizes.get(axis, 1) > 1}
    count = math.prod(over.values())
    whole = [
        variable.path
        for variable in variables
        if len(variable.shape) > 1
        and variable._value is not None  # else it is laid out when it gets its numbers
        and not _REPLICATED.fullmatch(variable.path)
        and _parts(variable) < count
    ]
    if whole:
        rule = f"must spread every matrix of the backbone over {' and '.join(over)}"
        raise unsuitable(rule, f"{', '.join(whole[:3])} on several devices")
    slow = uneven_heads(heads, sizes)
    if slow is not None:
        warnings.warn(slow, UserWarning, stacklevel=3)


def _parts(variable: Any) -> int:
    """Return in how many different parts a variable is held."""
    held = variable.value.sharding.shard_shape(tuple(variable.shape))
    return math.prod(variable.shape) // math.prod(held)


def dealt_out(values: Sliceable, weight: Any) -> Any:
    """Return the tensor of a new weight's values; with JAX each device has its own part alone.

    Args:
        values: of the weight's shape, in any dtype. They are read once, those alone that the
            devices of this process hold.
        weight: a Keras variable, whose dtype and layout count.
    """
    if keras.config.backend() != "jax":
        return keras.ops.convert_to_tensor(values[...], dtype=weight.dtype)
    import jax

    present = keras.distribution.distribution()
    if present is None:
        tensor = jax.numpy.asarray(values[...], dtype=weight.dtype)
    else:
        layout = present.get_variable_layout(weight)
        sharding = getattr(layout, "backend_layout", layout)
        dtype, shape = plain_dtype(weight.dtype), tuple(values.shape)
        places = {
            device: within(part, shape)
            for device, part in sharding.addressable_devices_indices_map(shape).items()
        }
        here = _hull(places.values())
        read, begin = values[here], [side.start for side in here]
        parts = [
            jax.device_put(np.ascontiguousarray(read[shifted(part, begin)], dtype), device)
            for device, part in places.items()
        ]
        tensor = jax.make_array_from_single_device_arrays(shape, sharding, parts)
    # A device fetches them later, and until then they stay here beside the next ones.
    return jax.block_until_ready(tensor)


def _hull(parts: Iterable[tuple[slice, ...]]) -> tuple[slice, ...]:
    """Return the smallest part of an array that holds all of some."""
    sides = zip(*parts)
    return tuple(slice(min(s.start for s in side), max(s.stop for s in side)) for side in sides)


def picked(array: Any, places: tuple[Any, ...]) -> Any:
    """Return some numbers of an array by their indices along each axis, on every device."""
    import jax

    sharding = array.sharding
    if isinstance(sharding, jax.sharding.NamedSharding):
        sharding = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return _picking(sharding)(array, places)


@functools.cache
def _picking(sharding: Any) -> Any:
    import jax

    return jax.jit(lambda array, places: array[places], out_shardings=sharding)


def spans_hosts(value: Any) -> bool:
    """Return whether devices of other processes hold parts of a tensor that are not here."""
    return not (
        getattr(value, "is_fully_addressable", True) or getattr(value, "is_fully_replicated", True)
    )


def fetched(tensor: Any) -> np.ndarray:
    """Return the numbers of a tensor or variable, which may lie on several hosts: all call it."""
    value = getattr(tensor, "value", tensor)
    if spans_hosts(value):
        tensor = _replicating(value.sharding.mesh)(value)
    return np.asarray(keras.ops.convert_to_numpy(tensor))


@functools.cache
def _replicating(mesh: Any) -> Any:
    """Return what makes an array whole on every device of a mesh, compiled once for each shape."""
    import jax

    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.jit(lambda array: array, out_shardings=everywhere)


def scope(distribution: Any) -> contextlib.AbstractContextManager:
    """Return the scope of a distribution, one without an effect for None."""
    return contextlib.nullcontext() if distribution is None else distribution.scope()


@contextlib.contextmanager
def no_scope() -> Iterator[None]:
    """Leave the scope of a distribution for a while."""
    present = keras.distribution.distribution()
    if present is None:  # without a look at JAX's devices
        yield
        return
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(present)


def settle(variables: Iterable[Any], distribution: Any) -> None:
    """Lay out variables that were made outside a distribution's scope, such as an optimiser's.

    Nothing for None, and for variables that have a layout already.
    """
    if distribution is None:
        return
    for variable in variables:
        if variable._layout is None:
            variable._layout = distribution.get_variable_layout(variable)
            variable.assign(variable.value)


def current_mesh() -> Any:
    """Return the `jax.sharding.Mesh` of the distribution in whose scope this is, None for none."""
    current = keras.distribution.distribution()
    if keras.config.backend() != "jax" or not isinstance(current, keras.distribution.ModelParallel):
        return None
    return current.device_mesh.backend_mesh


def between_layers(mesh: Any, columns: bool = True) -> Callable[[Any], Any]:
    """Return what lays states `[.., H]` out as they go from layer to layer of a T5.

    Each device of the model axis keeps some columns of what the backward pass needs of them. The
    sum over the axis that a layer ends with is then dealt out, and gathered in the next one: as
    many bytes are exchanged as for whole sums. Each device of the fsdp axis keeps its own rows, so
    that matrices are gathered and never states.

    Args:
        mesh: a `jax.sharding.Mesh`; None, or without several devices on these axes: states stay.
        columns: whether columns are dealt out. Default True.
    """
    over = {} if mesh is None else mesh.shape
    of_model, of_rows = (over.get(MODEL, 1) if columns else 1), over.get(FSDP, 1)
    if of_model == of_rows == 1:
        return lambda x: x
    import jax

    spec = jax.sharding.PartitionSpec
    free = spec.UNCONSTRAINED

    def lay_out(x: Any) -> Any:
        if not isinstance(x, jax.core.Tracer):
            return x
        sides: list[Any] = [free] * x.ndim
        if of_model > 1 and x.shape[-1] % of_model == 0:
            sides[-1] = MODEL
        if of_rows > 1 and x.shape[0] % of_rows == 0:
            sides[0] = FSDP
        return jax.lax.with_sharding_constraint(x, jax.sharding.NamedSharding(mesh, spec(*sides)))

    return lay_out


def reshard_after_forward(mesh: Any) -> Callable[[Callable[..., Any], Any], Callable[..., Any]]:
    """Return what lets a function go of the matrices that the fsdp axis gathers for it.

    Where it is differentiated, they are gathered when its inputs are there, and again when the
    gradient of what it returns is; nothing is computed again. Else a compiler may gather those of
    all layers at the start, and keep them until the end.

    Args:
        mesh: a `jax.sharding.Mesh`; None, or without several devices on that axis: nothing is done.

    Returns:
        What takes a function of tensors, and the layer whose weights are all that it uses beside
        them. The function stays as it is where these train.
    """
    if mesh is None or mesh.shape.get(FSDP, 1) == 1:
        return lambda function, layer: function
    import jax

    def resharded(function: Callable[..., Any], layer: Any) -> Callable[..., Any]:
        weights = layer.variables
        if any(weight.trainable for weight in weights):  # theirs is no gradient below
            return function

        def plain(values: Sequence[Any], inputs: Sequence[Any]) -> Any:
            with keras.StatelessScope(state_mapping=list(zip(weights, values))):
                return function(*inputs)

        def forward(values: Sequence[Any], inputs: Sequence[Any]) -> Any:
            values, inputs = jax.lax.optimization_barrier((values, inputs))
            return jax.vjp(lambda inputs: plain(values, inputs), inputs)

        def backward(pullback: Any, gradient: Any) -> tuple[Any, Any]:
            pullback, gradient = jax.lax.optimization_barrier((pullback, gradient))
            return None, *pullback(gradient)

        run = jax.custom_vjp(plain)
        run.defvjp(forward, backward)
        return lambda *inputs: run([weight.value for weight in weights], inputs)

    return resharded


def rows_at_once(distribution: Any) -> int:
    """Return by what number of rows a distribution deals out a batch, 1 for None."""
    if distribution is None:
        return 1
    mesh = distribution.device_mesh
    return int(dict(zip(mesh.axis_names, mesh.shape))[distribution.batch_dim_name])


def placed(batch: Any, distribution: Any) -> Any:
    """Return the arrays of a batch dealt out by rows; whole where the rows do not suit."""
    if distribution is None:
        return batch
    import jax

    def place(array: Any) -> Any:
        layout = distribution.get_data_layout(array.shape)
        if array.shape[0] % rows_at_once(distribution):
            layout = _whole(array, distribution)
        return jax.device_put(array, layout.backend_layout)

    return keras.tree.map_structure(place, batch)


def gathered(outputs: Any, distribution: Any) -> Any:
    """Return the outputs of a function that is being compiled, whole on every device."""
    if distribution is None:
        return outputs
    import jax

    return keras.tree.map_structure(
        lambda array: jax.lax.with_sharding_constraint(
            array, _whole(array, distribution).backend_layout
        ),
        outputs,
    )


def _whole(array: Any, distribution: Any) -> Any:
    return keras.distribution.TensorLayout([None] * array.ndim, distribution.device_mesh)
