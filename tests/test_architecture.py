"""Imports run downhill, heavy ones late, and the public names are these."""

import ast
import pathlib

import keras_spot

PACKAGE = pathlib.Path(keras_spot.__file__).parent

RANKS = {
    "errors": 0,
    "files": 0,
    "recipe": 1,
    "samplers": 1,
    "remote": 1,
    "t5x_files": 1,
    "versions": 1,
    "synthetic": 1,
    "tasks": 2,
    "prompt_files": 2,
    "prompt_names": 1,
    "distribution": 2,
    "progress": 2,
    "optimizers": 2,
    "passes": 2,
    "transfer": 2,
    "converters": 2,
    "backbones": 3,
    "library": 3,
    "plots": 3,
    "run_files": 3,
    "metrics": 3,
    "losses": 3,
    "gradients": 3,
    "forward": 4,
    "initializers": 3,
    "serving": 3,
    "inspection": 4,
    "hub": 3,
    "decoding": 5,
    "generation": 6,
    "submission": 4,
    "pipeline": 4,
    "soft_prompt": 4,
    "prompted_t5": 7,
    "building": 8,
    "checkpoints": 8,
    "evaluation": 8,
    "training": 9,
    "bank_training": 10,
    "retrieval": 10,
    "demo": 10,
    "study": 10,
    "report": 11,
    "cli": 12,
}
HEAVY = {"tensorflow", "keras", "keras_hub", "tensorflow_datasets", "tensorflow_text", "sklearn"}
HEAVY |= {"scipy", "matplotlib", "yaml", "rich", "rouge_score"}
HEAVY |= {"fsspec", "huggingface_hub", "safetensors", "tensorstore", "msgpack", "aiohttp", "gcsfs"}
# Modules that must load in milliseconds: NumPy at most.
LIGHT = {"errors", "files", "recipe", "versions", "tasks", "prompt_files", "transfer", "run_files"}
LIGHT |= {"metrics", "submission", "progress", "plots", "backbones", "demo", "cli", "serving"}
LIGHT |= {"__init__", "converters", "remote", "t5x_files", "inspection", "hub", "library", "report"}


def modules():
    for file in PACKAGE.rglob("*.py"):
        yield file.relative_to(PACKAGE).parts[0].removesuffix(".py"), file


def imported(tree, top_only=False):
    nodes = tree.body if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)


def test_imports_run_downhill():
    uphill = []
    for module, file in modules():
        if module == "__init__":
            continue
        for name, member in imported(ast.parse(file.read_text(encoding="utf-8"))):
            parts = name.split(".")
            if parts[0] != "keras_spot":
                continue
            target = parts[1] if len(parts) > 1 else member
            if target != module and RANKS[target] >= RANKS[module]:
                uphill.append(f"{module} imports {target}")
    assert uphill == []


def test_every_module_has_a_rank():
    assert {module for module, _ in modules()} - {"__init__"} == set(RANKS)


def test_heavy_imports_are_late():
    early = []
    for module, file in modules():
        if module not in LIGHT:
            continue
        for name, _ in imported(ast.parse(file.read_text(encoding="utf-8")), top_only=True):
            if name.split(".")[0] in HEAVY:
                early.append(f"{module} imports {name}")
    assert early == []


def test_the_public_surface():
    assert sorted(keras_spot.__all__) == [
        "PromptCheckpoint",
        "PromptLibrary",
        "PromptedT5",
        "Recipe",
        "SoftPrompt",
        "__version__",
        "backbones",
        "build",
        "evaluate",
        "hub",
        "initializers",
        "inspection",
        "load_bank",
        "load_mixture",
        "load_task",
        "losses",
        "metrics",
        "optimizers",
        "prompt_files",
        "retrieval",
        "strategy",
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
