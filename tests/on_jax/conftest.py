"""The part of the suite that runs with JAX: `KERAS_BACKEND=jax pytest tests/on_jax -m jax`."""

import os

import pytest

collect_ignore = ["host.py", "sharded.py"]  # programs of their own
if os.environ["KERAS_BACKEND"] != "jax":
    collect_ignore_glob = ["*.py"]


def pytest_collection_modifyitems(items):
    for item in items:
        if "on_jax" in item.path.parts:
            item.add_marker(pytest.mark.jax)
