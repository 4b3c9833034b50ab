"""Which names of keras_spot a piece of Python uses, and which of them are not public."""

import ast
import inspect

import keras_spot


def private_names(code: str) -> list[str]:
    """Return the names of keras_spot in code that are in no public module's `__all__`."""
    tree = ast.parse(code)
    private, known = [], {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "keras_spot":
                    private += [] if alias.name == "keras_spot" else [alias.name]
                    known[alias.asname or "keras_spot"] = keras_spot
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keras_spot"):
            for alias in node.names:
                path = [*node.module.split(".")[1:], alias.name]
                value, left = _resolve(keras_spot, path)
                private += [".".join(["keras_spot", *path])] if left else []
                known[alias.asname or alias.name] = value
    for path in _chains(tree):
        if path[0] in known and _resolve(known[path[0]], path[1:])[1]:
            private.append(".".join(path))
    return private


def _resolve(value, path):
    """Return what a path of public names leads to, and whether something of it is private."""
    for name in path:
        if not inspect.ismodule(value):
            return value, False
        if name not in getattr(value, "__all__", ()):
            return None, True
        value = getattr(value, name)
    return value, False


def _chains(tree):
    """Yield the names of every whole chain of attributes, `["a", "b"]` of `a.b`."""
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        names = []
        while isinstance(node, ast.Attribute) and (names or id(node) not in inner):
            names.append(node.attr)
            node = node.value
        if names and isinstance(node, ast.Name):
            yield [node.id, *reversed(names)]
