"""Writing the trained backbone as a KerasHub preset folder of half the float32 size."""

import hashlib
import json
import pathlib
import shutil

import h5py
import keras_hub
import numpy as np

from .network import backbone


def halve(path: pathlib.Path) -> None:
    """Rewrite an h5 weights file with float16 data sets; Keras reads them into float32 weights."""
    temporary = path.with_suffix(".partial")
    with h5py.File(path) as old, h5py.File(temporary, "w") as new:
        new.attrs.update(old.attrs)

        def copy(name, item):
            if isinstance(item, h5py.Group):
                new.require_group(name).attrs.update(item.attrs)
                return
            data = item[()]
            if data.dtype == np.float32:
                data = data.astype(np.float16)
            new.create_dataset(name, data=data).attrs.update(item.attrs)

        old.visititems(copy)
    temporary.replace(path)


def export(
    weights: list[np.ndarray], vocabulary: pathlib.Path, folder: pathlib.Path, recipe: dict
) -> None:
    """Write config, float16 weights, tokeniser and `recipe.json`; the folder appears whole."""
    tokenizer = keras_hub.models.T5Tokenizer(str(vocabulary))
    # Trained without dropout; a rate of T5's own lets a recipe ask for it.
    t5 = backbone(tokenizer.vocabulary_size(), dropout=0.1)
    for variable, value in zip(t5.weights, weights, strict=True):
        variable.assign(value.astype(np.float16).astype(np.float32))
    part = folder.with_name(folder.name + ".partial")
    shutil.rmtree(part, ignore_errors=True)
    t5.save_to_preset(str(part))
    tokenizer.save_to_preset(str(part))
    halve(part / "model.weights.h5")
    (part / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
    hashes = {
        p.relative_to(part).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(part.rglob("*"))
        if p.is_file()
    }
    (part / "sha256.json").write_text(json.dumps(hashes, indent=2) + "\n", encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    for item in sorted(p for p in part.rglob("*") if p.is_file()):
        target = folder / item.relative_to(part)
        target.parent.mkdir(parents=True, exist_ok=True)
        item.replace(target)
    shutil.rmtree(part)
