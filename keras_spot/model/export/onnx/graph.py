"""ONNX graphs, written node by node; their weights lie once in a file that they share."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["OF_RUNTIME", "WEIGHTS", "Graph", "WeightFile"]

WEIGHTS = "weights.bin"
OPSET, IR_VERSION = 20, 9
OF_RUNTIME = "com.microsoft"  # the domain of operators that only ONNX Runtime has
_ALIGNED = 64  # bytes, so that a runtime may map the file into memory
_SMALL = 1024  # bytes of what stays in the graph itself


class WeightFile:
    """A file of weights, each of which lies in it once however many graphs use it.

    Args:
        folder: where the file is made, and the graphs lie.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / WEIGHTS
        self.path.write_bytes(b"")
        self._places: dict[bytes, int] = {}

    def tensor(self, name: str, values: np.ndarray) -> Any:
        """Return the `TensorProto` of an array, large ones by their place in the file."""
        import onnx

        if values.nbytes <= _SMALL:
            return onnx.numpy_helper.from_array(values, name)
        values = np.ascontiguousarray(values)
        kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
        return self.place(onnx.TensorProto(name=name, data_type=kind, dims=values.shape), values)

    def place(self, tensor: Any, values: Any) -> Any:
        """Put the bytes of a `TensorProto` into the file and return it with their place."""
        import onnx

        content = memoryview(values).cast("B")
        digest = hashlib.sha256(content).digest()
        if digest not in self._places:
            with open(self.path, "ab") as file:
                file.write(bytes(-file.tell() % _ALIGNED))
                self._places[digest] = file.tell()
                file.write(content)
        tensor.ClearField("raw_data")
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        facts = {"location": WEIGHTS, "offset": self._places[digest], "length": content.nbytes}
        for key, value in facts.items():
            tensor.external_data.add(key=key, value=str(value))
        return tensor


class Graph:
    """A graph under construction. Values are known by their names, which `op` makes up.

    Args:
        name: of the graph.
        weights: where its weights go.
    """

    def __init__(self, name: str, weights: WeightFile) -> None:
        self.name, self.weights = name, weights
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self._names: dict[str, str] = {}

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node and return the name of its output, a list of them for several."""
        import onnx

        names = [f"{kind.lower()}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(onnx.helper.make_node(kind, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def weight(self, name: str, values: np.ndarray) -> str:
        """Add a weight once and return its name."""
        if name not in self.initializers:
            self.initializers[name] = self.weights.tensor(name, values)
        return name

    def constant(self, values: Any, dtype: str = "int64") -> str:
        """Return the name of a small constant."""
        array = np.asarray(values, dtype)
        shape = "x".join(map(str, array.shape))
        return self.weight(f"constant_{dtype}_{shape}_{array.ravel().tolist()}", array)

    def input(self, name: str, dtype: str, shape: list[int | str]) -> str:
        """Add an input; a text in the shape names a size that is free."""
        self.inputs.append(_value_info(name, dtype, shape))
        return name

    def output(self, name: str, value: str, dtype: str, shape: list[int | str]) -> None:
        """Make a value that a node gives an output of that name."""
        self._names[value] = name
        self.outputs.append(_value_info(name, dtype, shape))

    def save(self, file: Path) -> None:
        """Check the graph and write it."""
        import onnx

        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [self._names.get(name, name) for name in names]
        graph = onnx.helper.make_graph(
            self.nodes, self.name, self.inputs, self.outputs, list(self.initializers.values())
        )
        versions = {node.domain: 1 if node.domain else OPSET for node in self.nodes}
        opsets = [onnx.helper.make_opsetid(*pair) for pair in versions.items()]
        model = onnx.helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="keras_spot"
        )
        file.write_bytes(model.SerializeToString())
        onnx.checker.check_model(str(file), full_check=True)


def _value_info(name: str, dtype: str, shape: list[int | str]) -> Any:
    import onnx

    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return onnx.helper.make_tensor_value_info(name, kind, shape)
