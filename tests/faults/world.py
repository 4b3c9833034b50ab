"""A toy world for the commands, and the commands in it: what they need, write and may differ in.

`make` builds what all share: a random backbone of one layer, rows of a task, a library, runs.
A command runs in a place of its own, a copy of what it begins with.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

WORDS = ["good", "bad", "fine", "poor", "great", "awful", "nice", "dull", "bright"]
RECIPE = {"prompt_length": 3, "batch_size": 4, "steps": 3, "checkpoint_every": 1}
SIZES = {"train": 24, "dev": 6}
# Facts of a record that say when, how fast or by which process it was made.
FREE = {"seconds", "finished", "host", "pid", "date_saved", "time", "checksum", "started"}
TASK = {"input": "review: {text}", "labels": ["bad", "good"], "max_target_length": 3}


# === The world ===


def make(folder):
    """Build the world in a folder, with TensorFlow."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    _write_rows(folder)
    _write_backbones(folder)
    _write_prompts(folder)
    (folder / "whole").touch()


def _write_rows(folder):
    rng = np.random.default_rng(0)
    for task in ("reviews", "films", "books"):
        for split, rows in SIZES.items():
            lines = ["text,label"]
            for _ in range(rows):
                text = " ".join(rng.choice(WORDS, 4))
                lines.append(f"{text},{'good' if 'good' in text else 'bad'}")
            (folder / f"{task}-{split}.csv").write_text("\n".join(lines) + "\n")
        files = {"train": f"{task}-train.csv", "validation": f"{task}-dev.csv"}
        record = {"name": task, **TASK, "files": files, "metrics": ["accuracy"]}
        (folder / f"{task}.json").write_text(json.dumps(record))
    study = {
        "name": "toy",
        "backbone": str(folder / "preset"),
        "sources": [str(folder / "films.json"), str(folder / "books.json")],
        "targets": [str(folder / "reviews.json")],
        "seeds": [0],
        "source_steps": 2,
        "target_steps": 2,
        "embedding_steps": 1,
        "evaluations": 2,
    }
    (folder / "study.json").write_text(json.dumps(study))


def _write_backbones(folder):
    import hostile_seeds

    from keras_spot import backbones
    from keras_spot.backbones.converters import vocabulary
    from keras_spot.backbones.converters.architecture import Architecture

    shape = Architecture(8000, 8, 1, 1, 2, 4, 8, "relu", True, False)
    hostile_seeds.write_vocabulary(folder)
    with backbones.quiet_masks():
        tokenizer = vocabulary.read(folder / "spiece.model")
        backbone = shape.build()
        rng = np.random.default_rng(0)
        for weight in backbone.weights:
            if not weight.path.endswith("seed_generator_state"):
                weight.assign(rng.normal(size=weight.shape) / 3)
        backbones.save(backbone, tokenizer, folder / "preset")
    (folder / "preset/recipe.json").write_text(json.dumps(RECIPE))
    hostile_seeds.write_hugging_face(folder, vocab_size=8064)
    shutil.copyfile(folder / "spiece.model", folder / "hf/spiece.model")


def _write_prompts(folder):
    from keras_spot import PromptLibrary, backbones, prompts

    fingerprint = backbones.fingerprint(backbones.load(folder / "preset")[0])
    rng = np.random.default_rng(1)
    library = PromptLibrary(folder / "library")
    for number, task in enumerate(("films", "books")):
        facts = {"task": task, "backbone": fingerprint, "step": 2}
        prompt = prompts.Prompt(rng.normal(size=(3, 8)), facts)
        library.add(task, prompt, prompts.Prompt(rng.normal(size=(3, 8)) + number, facts))
    for name in ("one", "two"):
        facts = {"task": "reviews", "backbone": fingerprint, "step": 2}
        prompts.write(folder / f"{name}.npz", rng.normal(size=(3, 8)), facts)
    for step in (2, 4):
        values = rng.normal(size=(3, 8)).astype("float32")
        prompts.write(prompts.step_path(folder / "run", step), values)
    record = {"task": "reviews", "backbone": fingerprint, "recipe": {}, "seed": 0, "versions": {}}
    record |= {"best": {"step": 4, "score": 50.0}}
    (folder / "run/run.json").write_text(json.dumps(record))


# === Commands ===


@dataclasses.dataclass(frozen=True)
class Verb:
    """A command that writes.

    Attributes:
        name: what reports call it.
        words: from the world's folder to the command line; it runs in the place.
        before: fills a place with what is there at first. Default: nothing.
        whole: whether what it writes is always the old or the new one, whole.
        light: whether it runs without TensorFlow.
        eager: whether it may run without compiling.
    """

    name: str
    words: Callable[[Path], list]
    before: Callable[[Path, Path], None] = lambda world, place: None
    whole: bool = False
    light: bool = False
    eager: bool = True


def _train(world, *more):
    backbone = ["--backbone", world / "preset", "--method", "rank"]
    return ["train", "--task", world / "reviews.json", *backbone, "--run-dir", "out", *more]


def _bank(world):
    backbone = ["--backbone", world / "preset", "--method", "rank"]
    tasks = ["--task", world / "reviews.json", "--task", world / "films.json"]
    return ["train-bank", *tasks, *backbone, "--run-dir", "out"]


def _transfer(world):
    library = ["--library", world / "library", "--k", 2, "--embedding-steps", 1]
    return _train(world, "--transfer", "top-k", *library, "--steps", 2)


def _export(world):
    prompt = ["--prompt", world / "one.npz", "--backbone", world / "preset"]
    return ["export", *prompt, "--max-length", 3, "out"]


def _old_preset(world, place):
    """An older preset of ours, from another backbone, to be replaced."""
    from keras_spot import backbones
    from keras_spot.base import ownership

    shutil.copytree(world / "preset", place / "out")
    (place / "out" / ownership.MARKER).unlink()
    ownership.mark(place / "out", backbones.PRESET)


def _old_savedmodel(world, place):
    from keras_spot.base import ownership
    from keras_spot.model.export import SAVED_MODEL

    (place / "out/variables").mkdir(parents=True)
    (place / "out/saved_model.pb").write_bytes(b"an older one" * 1000)
    (place / "out/variables/variables.index").write_bytes(b"its variables" * 1000)
    ownership.mark(place / "out", SAVED_MODEL)


def _old_library(world, place):
    shutil.copytree(world / "library", place / "out")


VERBS = [
    Verb("train", _train),
    Verb("train-bank", _bank),
    Verb("train --transfer", _transfer),
    Verb("study run", lambda world: ["study", "run", world / "study.json", "--output", "out"]),
    Verb(
        "convert a backbone",
        lambda world: ["convert", world / "hf", "out"],
        _old_preset,
        whole=True,
    ),
    Verb(
        "convert a prompt",
        lambda world: ["convert", world / "one.npz", "out", "--to", "peft"],
        whole=True,
    ),
    Verb(
        "export",
        _export,
        _old_savedmodel,
        whole=True,
        eager=False,
    ),
    Verb(
        "library add",
        lambda world: ["library", "add", world / "run", "--library", "out"],
        _old_library,
        light=True,
        eager=False,
    ),
]
BY_NAME = {verb.name: verb for verb in VERBS}


# === Pictures ===


def picture(folder):
    """Return path -> digest of all files below a folder, without what may differ.

    Records lose their times, states are told by their arrays. Of TensorBoard's events, a
    SavedModel's graph, the marker of a folder with such and reports only the names count.
    """
    results = {}
    for file in sorted(Path(folder).rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_dir():
            if not any(file.iterdir()):
                results[f"{name}/"] = "an empty folder"
            continue
        name = re.sub(r"events\.out\.tfevents\..*", "events", name)
        results[name] = _digest(file, name)
    return results


def _digest(file, name):
    content = file.read_bytes()
    with contextlib.suppress(ValueError, zipfile.BadZipFile):  # cut off, and compared as it is
        content = _kept(content, name)
    return hashlib.sha256(content).hexdigest()[:16]


def _kept(content, name):
    """Return what of a file may not differ."""
    if name.endswith(_NAMES_ALONE) or "/pictures/" in name:
        return b""
    if name.endswith(("state.npz", "state.previous.npz")):
        with np.load(io.BytesIO(content)) as arrays:
            kept = {k: arrays[k] for k in sorted(arrays.files) if k not in FREE}
        return b"".join(k.encode() + v.tobytes() for k, v in kept.items())
    if name.endswith(".json"):
        return json.dumps(_without_times(json.loads(content)), sort_keys=True).encode()
    if name.endswith(".jsonl"):
        rows = [_without_times(json.loads(line)) for line in content.splitlines()]
        return json.dumps(rows, sort_keys=True).encode()
    return content


_NAMES_ALONE = ("events", ".pb", ".html", ".md", "table.csv", "keras_spot.json")


def _without_times(value):
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if k not in FREE}
    return [_without_times(v) for v in value] if isinstance(value, list) else value


if __name__ == "__main__":
    import sys

    make(sys.argv[1])
