"""Saved objects load in a process that has imported `keras_spot` and nothing else of it."""

import ast
import json
import pathlib
import subprocess
import sys

import pytest

import keras_spot

PACKAGE = pathlib.Path(keras_spot.__file__).parent


def registered():
    """Yield the module and the name of every class that registers itself with Keras."""
    for file in PACKAGE.rglob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and any(
                "register_keras_serializable" in ast.unparse(one) for one in node.decorator_list
            ):
                place = file.relative_to(PACKAGE).with_suffix("").parts
                yield node.name, ".".join(place)


def test_the_table_names_every_registered_class():
    assert dict(registered()) == keras_spot._REGISTERED


CODE = """
import sys
{imports}
assert not [name for name in sys.modules if name.startswith("keras_spot.model")]
classes = keras.saving.get_custom_objects()
late = {{name: classes["keras_spot>" + name] for name in keras_spot._REGISTERED}}
assert {{type(one).__name__ for one in late.values()}} == {{"LateClass"}}
print(keras.saving.load_model(sys.argv[1]).count_params())
for name, place in keras_spot._REGISTERED.items():
    assert late[name].__name__ == name and hasattr(late[name], "from_config")
    real = classes["keras_spot>" + name]
    assert isinstance(real, type) and real.__module__ == "keras_spot." + place, name
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    import keras

    inputs = keras.Input((4, 8))
    layer = keras_spot.SoftPrompt(3, keras_spot.initializers.uniform(seed=1))
    path = tmp_path_factory.mktemp("saved") / "m.keras"
    keras.Model(inputs, layer(inputs)).save(path)
    return path


LOOKED = "import keras_spot, importlib.util; importlib.util.find_spec('keras'); import keras"


@pytest.mark.parametrize(
    "imports", ["import keras, keras_spot", "import keras_spot, keras", LOOKED], ids=range(3)
)
def test_a_fresh_process_finds_every_class(saved, imports):
    code = CODE.format(imports=imports)
    process = subprocess.run(
        [sys.executable, "-c", code, str(saved)], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == ["24"]


def test_tensorflow_starts_quietly_after_keras_spot():
    """Unless the environment asks for its notes."""
    import os

    code = "import keras_spot, os; keras_spot.build; print(os.environ['TF_CPP_MIN_LOG_LEVEL'])"
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    quiet = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert (quiet.stdout, quiet.stderr) == ("3\n", "")


def test_tensorflow_still_warns_after_its_quiet_start():
    code = "import keras_spot, keras, tensorflow as tf; tf.get_logger().warning('a real warning')"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stderr == "WARNING:tensorflow:a real warning\n"


def test_importing_keras_spot_alone_imports_no_keras():
    code = "import json, sys, keras_spot; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", code], text=True))
    assert not {"keras", "tensorflow", "numpy"} & set(loaded)
