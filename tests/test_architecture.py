"""Imports run downhill, heavy ones late, and the public names are these."""

import ast
import pathlib
import sys

import keras_spot

PACKAGE = pathlib.Path(keras_spot.__file__).parent
sys.path.insert(0, str(PACKAGE.parent / "tools"))

import rooms

HEAVY = {"tensorflow", "keras", "keras_hub", "tensorflow_datasets", "tensorflow_text", "sklearn"}
HEAVY |= {"scipy", "matplotlib", "yaml", "rich", "rouge_score", "sentencepiece"}
HEAVY |= {"onnx", "onnxruntime", "ctranslate2", "transformers", "torch"}
HEAVY |= {"fsspec", "huggingface_hub", "safetensors", "tensorstore", "msgpack", "aiohttp", "gcsfs"}
VAGUE = {"found", "way", "ways", "by_hand", "passes", "said", "called", "lean"}
# What may import them as it loads; everything else must load in milliseconds, NumPy at most.
MAY_BE_HEAVY = (
    "model",
    "base/devices",
    "base/hosts",
    "base/layouts",
    "tasks/synthetic_data/builder",
    "prompts/initializers",
)
MAY_BE_HEAVY += (
    "training/checkpoints",
    "training/finite",
    "training/listeners",
    "training/loss_means",
    "training/session",
)


def modules():
    for file in PACKAGE.rglob("*.py"):
        place = file.relative_to(PACKAGE).with_suffix("")
        if len(place.parts) > 1:
            yield place, file


def imported(tree, top_only=False):
    nodes = tree.body if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)


def test_imports_run_downhill():
    uphill = []
    for place, file in modules():
        room = place.parts[0]
        for name, member in imported(ast.parse(file.read_text(encoding="utf-8"))):
            parts = name.split(".")
            if parts[0] != "keras_spot":
                continue
            target = parts[1] if len(parts) > 1 else member
            if target != room and rooms.FLOORS[target] >= rooms.FLOORS[room]:
                uphill.append(f"{place} imports {target}")
    assert uphill == []


def test_one_module_imports_what_is_fast_and_plain_stands_alone():
    importers = set()
    for place, file in modules():
        for name, member in imported(ast.parse(file.read_text(encoding="utf-8"))):
            target = f"{name}.{member}"
            inside = str(place).startswith("model/fast")
            if target.startswith("keras_spot.model.fast") and not inside:
                importers.add(str(place))
            if str(place).startswith("model/plain"):
                assert not target.startswith(("tensorflow", "jax", "torch")), place
    assert importers == {"model/kernels"}


def test_every_room_is_on_the_list():
    assert {place.parts[0] for place, _ in modules()} == set(rooms.FLOORS)


def test_heavy_imports_are_late():
    early = []
    for place, file in modules():
        if str(place).startswith(MAY_BE_HEAVY):
            continue
        for name, _ in imported(ast.parse(file.read_text(encoding="utf-8")), top_only=True):
            if name.split(".")[0] in HEAVY:
                early.append(f"{place} imports {name}")
    assert early == []


def test_every_module_says_what_it_offers():
    """In `__all__`, unless it is a docstring alone; ruff checks that the names exist."""
    silent = []
    for place, file in modules():
        body = ast.parse(file.read_text(encoding="utf-8")).body
        names = [getattr(t, "id", "") for n in body if isinstance(n, ast.Assign) for t in n.targets]
        if len(body) > 1 and place.name != "__main__" and "__all__" not in names:
            silent.append(str(place))
    assert silent == []


def test_names_say_what_is_in_them():
    vague = []
    for folder in ("keras_spot", "benchmarks", "tools", "examples", "tests"):
        for file in (PACKAGE.parent / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                stored = isinstance(getattr(node, "ctx", None), ast.Store)
                name = getattr(node, "id", getattr(node, "attr", None)) if stored else None
                name = name or getattr(node, "arg", getattr(node, "name", None))
                if name in VAGUE:
                    vague.append(f"{file}:{getattr(node, 'lineno', '')} {name}")
    assert vague == []


def test_classes_are_below_300_lines():
    long = []
    for place, file in modules():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.end_lineno - node.lineno >= 299:
                long.append(f"{place}: {node.name}")
    assert long == []


def test_the_public_surface():
    assert sorted(keras_spot.__all__) == [
        "InvalidArgument",
        "PromptCheckpoint",
        "PromptLibrary",
        "PromptedT5",
        "Recipe",
        "Run",
        "SoftPrompt",
        "__version__",
        "backbones",
        "build",
        "devices",
        "errors",
        "evaluate",
        "execute",
        "hub",
        "initializers",
        "inspection",
        "load_bank",
        "load_examples",
        "load_mixture",
        "load_task",
        "losses",
        "metrics",
        "optimizers",
        "plots",
        "prompts",
        "recycling",
        "reparameterizations",
        "retrieval",
        "serving",
        "study",
        "submission",
        "tasks",
        "train",
        "train_bank",
        "transfer",
        "warm_up",
    ]
    for name in keras_spot.__all__:
        assert getattr(keras_spot, name) is not None
    assert dir(keras_spot) == sorted(keras_spot.__all__)
