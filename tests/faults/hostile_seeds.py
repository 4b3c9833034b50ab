"""Good files of every reader: how to write them, which of them to spoil, and how to read them.

A reader returns what it read; what it raises or warns of is judged by `hostile_trial`.
"""

import dataclasses
import functools
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

PROMPT = np.arange(12, dtype="float32").reshape(4, 3) / 7


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader of the package.

    Attributes:
        name: what it is called in the report.
        kind: of the file that is spoiled, a key of `hostile_mutations.STRUCTURED` or another word.
        write: writes a good folder.
        file: the file in it that is spoiled.
        read: reads the folder.
        share: how many of the inputs it gets, 1 for most.
        heavy: whether it imports TensorFlow.
    """

    name: str
    kind: str
    write: Callable[[Path], None]
    file: str
    read: Callable[[Path], object]
    share: float = 1.0
    heavy: bool = False


# === Prompts ===


def write_prompts(folder):
    from keras_spot import prompts

    provenance = {"task": "glue/rte", "step": 7, "score": 91.5, "versions": {"numpy": "2.0"}}
    prompts.write(folder / "p.npy", PROMPT)
    prompts.write(folder / "p.npz", PROMPT, provenance)
    prompts.write(folder / "adapter", PROMPT, provenance, "peft")
    for step in (5, 10):
        prompts.write(prompts.step_path(folder / "run", step), PROMPT + step)
    record = {"task": "glue/sst2", "backbone": "abc", "recipe": {}, "seed": 3, "versions": {}}
    (folder / "run/run.json").write_text(json.dumps({**record, "best": {"step": 5, "score": 9.5}}))


def write_multitask(folder):
    from safetensors.numpy import save_file

    config = {"peft_type": "MULTITASK_PROMPT_TUNING", "num_virtual_tokens": 4}
    config |= {"num_transformer_submodules": 1, "base_model_name_or_path": "t5"}
    (folder / "adapter").mkdir()
    (folder / "adapter/adapter_config.json").write_text(json.dumps(config))
    tensors = {
        "prompt_embeddings": PROMPT,
        "prefix_task_cols": np.ones((2, 4, 2), "float32"),
        "prefix_task_rows": np.ones((2, 2, 3), "float16"),
    }
    save_file(tensors, folder / "adapter/adapter_model.safetensors", metadata={"format": "pt"})


def read_prompt(folder, name, **options):
    from keras_spot import prompts

    prompts.read_header(folder / name)
    return prompts.read(folder / name, **options)


# === T5X ===


def write_t5x(folder, chunks=(2, 3)):
    import msgpack

    def inline(array):
        content = msgpack.packb((array.shape, array.dtype.name, array.tobytes()))
        return msgpack.ExtType(1, content)

    name = "target.encoder.prompt.prompt.prompt"
    (folder / name).mkdir()
    header = {"zarr_format": 2, "shape": [4, 3], "chunks": list(chunks), "dtype": "<f4"}
    header |= {"compressor": {"id": "gzip", "level": 1}, "order": "C", "filters": None}
    (folder / name / ".zarray").write_text(json.dumps({**header, "fill_value": None}))
    for i in range(2):
        (folder / name / f"{i}.0").write_bytes(gzip.compress(PROMPT[2 * i : 2 * i + 2].tobytes()))
    leaf = {"driver": "zarr", "kvstore": {"driver": "gfile", "path": name}, "metadata": header}
    encoder = {"encoder_norm": {"scale": inline(np.ones(3, "float32"))}}
    encoder["prompt"] = {"prompt": {"prompt": leaf}}
    target = {"encoder": encoder, "decoder": {"x": inline(np.ones((), "int32"))}}
    tree = {"version": 3, "optimizer": {"state": {"step": inline(np.int32(3))}, "target": target}}
    (folder / "checkpoint").write_bytes(msgpack.packb(tree))


# === Libraries ===


def write_library(folder):
    from keras_spot import PromptLibrary

    library = PromptLibrary(folder / "library")
    library.add("glue/mnli", PROMPT, PROMPT[::-1] + 1, task="glue/mnli", score=84.5)
    library.add("squad", PROMPT + 1, task="squad")


def read_library(folder):
    from keras_spot import PromptLibrary

    library = PromptLibrary(folder / "library")
    library.verify()
    names = [entry.name for entry in library.entries()]
    for by in ("per_token_cosine", "max_inner_product"):
        ranked = library.rank(PROMPT, by)
        assert all(np.isfinite(value) for _, value in ranked)
        assert "squad" in dict(ranked), "a damaged entry stopped another"
    assert "squad" in names, "a damaged entry stopped another"
    return ranked


def read_entry(folder):
    from keras_spot import PromptLibrary

    library = PromptLibrary(folder / "library")
    library.entry("glue/mnli")
    return library.prompt("glue/mnli"), library.embedding("glue/mnli")


# === Studies and tasks ===

STUDY = {
    "name": "s",
    "sources": ["mr", {"task": "snli", "split": "train"}],
    "targets": ["glue/sst2", {"task": "glue/mrpc", "method": "rank"}],
    "seeds": [0, 1],
    "source_steps": 40,
    "target_steps": 20,
    "embedding_steps": 10,
    "examples": [16, None],
    "recipe": {"learning_rate": 0.3, "dropout": 0.0},
}
TASK = {
    "name": "reviews",
    "input": "review: {text}",
    "labels": ["bad", "good"],
    "metrics": ["accuracy"],
    "max_target_length": 4,
    "files": {"train": "train.csv", "validation": "dev.jsonl"},
}


def write_study(folder):
    import yaml

    from keras_spot import study
    from keras_spot.study.table import write_json

    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    (folder / "study.json").write_text(json.dumps(STUDY))
    plan = study.load(folder / "study.yaml")
    place = study.StudyFolder(folder / "folder")
    place.open(plan)
    for i, cell in enumerate(plan.cells()[:6]):
        place.finish(cell, {**cell.columns(), "score": 50.0 + i, "curve": [[10, 40.0]]})
    cell = plan.cells()[-1]
    write_json(place._failure(cell), {**cell.columns(), "error": "E: no", "traceback": "..."})
    place.claims.take(plan.cells()[-2].id)


def read_study_folder(folder):
    from keras_spot import study
    from keras_spot.study.table import status

    place = study.StudyFolder(folder / "folder")
    rows = place.rows()
    assert len(rows) >= 5, "a damaged row stopped another"
    return rows, place.failures(), status(place)


def read_study_description(folder):
    from keras_spot import study

    return study.StudyFolder(folder / "folder").study()


def read_study(folder, name):
    from keras_spot import study

    return study.load(folder / name)


def write_task(folder):
    import yaml

    (folder / "task.yaml").write_text(yaml.safe_dump(TASK))
    (folder / "task.json").write_text(json.dumps(TASK))


def read_task(folder, name):
    from keras_spot import tasks

    return tasks.load(folder / name)


def write_card(folder):
    from keras_spot.tasks.card import TaskCard, write_cards

    cards = {name: TaskCard(name, "review: {text}", ("bad", "good"), 4) for name in ("a", "b")}
    facts = {"form": "savedmodel", "backbone": "abc", "prompt_length": 3, "max_target_length": 4}
    write_cards(folder / "task.json", cards, **facts)


def read_card(folder):
    from keras_spot.tasks.card import read_cards

    return read_cards(folder / "task.json")


ROWS = [{"text": f"film {i}", "label": i % 2, "score": i / 4} for i in range(12)]


def write_rows(folder):
    import pyarrow
    from pyarrow import parquet

    lines = ["text,label", *(f'"{row["text"]}, said",{row["label"]}' for row in ROWS)]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    tabs = ["text\tlabel", *(f"{row['text']}\t{row['label']}" for row in ROWS)]
    (folder / "rows.tsv").write_text("\n".join(tabs) + "\n")
    (folder / "rows.json").write_text(json.dumps(ROWS))
    text = "".join(json.dumps(row) + "\n" for row in ROWS)
    (folder / "rows.jsonl").write_text(text)
    (folder / "rows.csv.gz").write_bytes(gzip.compress((folder / "rows.csv").read_bytes()))
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), folder / "rows.parquet")


def read_rows(folder, name):
    from keras_spot import tasks
    from keras_spot.data import own

    task = tasks.Task(name="reviews", input="{text}", files={"train": str(folder / name)})
    return list(own.open_own(task, "train")())


# === Backbones ===

CONFIG = {"model_type": "t5", "vocab_size": 704, "d_model": 16, "d_kv": 6, "d_ff": 24}
CONFIG |= {"num_layers": 1, "num_heads": 2, "feed_forward_proj": "gated-gelu"}
CONFIG |= {"tie_word_embeddings": False, "layer_norm_epsilon": 1e-6, "num_decoder_layers": 1}


def hugging_face_tensors(config):
    from keras_spot.backbones.converters.huggingface import architecture_of
    from keras_spot.backbones.converters.names import HUGGING_FACE

    shape = architecture_of(config)
    tensors = {}
    for name, path in HUGGING_FACE.expand(shape).items():
        sides = shape.shape_of(path)
        flip = path.rsplit(".", 1)[-1] in HUGGING_FACE.transposed
        tensors[name] = np.full(sides[::-1] if flip else sides, 0.5, "float32")
    return tensors


def write_hugging_face(folder, **changes):
    from safetensors.numpy import save_file

    config = {**CONFIG, **changes}
    (folder / "hf").mkdir()
    (folder / "hf/config.json").write_text(json.dumps(config))
    save_file(hugging_face_tensors(config), folder / "hf/model.safetensors")


def write_sharded(folder):
    from safetensors.numpy import save_file

    write_hugging_face(folder)
    (folder / "hf/model.safetensors").unlink()
    tensors = hugging_face_tensors(CONFIG)
    weight_map = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(tensors)}
    for file in set(weight_map.values()):
        part = {name: values for name, values in tensors.items() if weight_map[name] == file}
        save_file(part, folder / "hf" / file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "hf/model.safetensors.index.json").write_text(json.dumps(index))


def write_t5x_model(folder):
    """A checkpoint whose embedding table lies in a zarr folder."""
    import msgpack

    from keras_spot.backbones.converters.architecture import Architecture
    from keras_spot.backbones.converters.names import T5X

    shape = Architecture(40, 12, 1, 1, 3, 4, 20, "relu", True, False)
    target = {}
    for name, path in T5X.expand(shape).items():
        sides = shape.shape_of(path)
        flip = path.rsplit(".", 1)[-1] in T5X.transposed
        values = np.ones(sides[::-1] if flip else sides, "float32")
        *branches, leaf = name.split(".")
        place = functools.reduce(lambda tree, key: tree.setdefault(key, {}), branches, target)
        packed = msgpack.packb((values.shape, values.dtype.name, values.tobytes()))
        place[leaf] = msgpack.ExtType(1, packed)
    zarr = "target.token_embedder.embedding"
    (folder / "t5x" / zarr).mkdir(parents=True)
    header = {"zarr_format": 2, "shape": [40, 12], "chunks": [40, 12], "dtype": "<f4"}
    header |= {"compressor": {"id": "gzip", "level": 1}, "order": "C", "filters": None}
    (folder / "t5x" / zarr / ".zarray").write_text(json.dumps(header))
    content = gzip.compress(np.ones((40, 12), "float32").tobytes())
    (folder / "t5x" / zarr / "0.0").write_bytes(content)
    target["token_embedder"]["embedding"] = {
        "driver": "zarr",
        "kvstore": {"driver": "gfile", "path": zarr},
        "metadata": header,
    }
    # What the mutations of msgpack look for.
    target["encoder"].setdefault("encoder_norm", {})
    tree = {"version": 3, "optimizer": {"target": target, "state": {"step": 3}}}
    (folder / "t5x/checkpoint").write_bytes(msgpack.packb(tree))


class Accepted(Exception):
    """Everything was checked, and the backbone would now be built."""


def read_backbone(folder, name, whole=False):
    """Load a backbone; all but a few times only up to where it is built."""
    from unittest import mock

    from keras_spot import backbones
    from keras_spot.backbones.converters import sources
    from keras_spot.backbones.converters.architecture import Architecture

    if whole:
        with backbones.quiet_masks():
            return sources.load(folder / name, None, None, 128)
    with mock.patch.object(Architecture, "build", side_effect=Accepted):
        try:
            return sources.load(folder / name, None, None, 128)
        except Accepted:
            return None


def write_preset(folder):
    import keras_spot
    from keras_spot import backbones

    tiny = Path(backbones.EMBEDDED["tiny"])
    (folder / "preset/assets").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "recipe.json", "metadata.json"):
        shutil.copyfile(tiny / name, folder / "preset" / name)
    config = json.loads((tiny / "config.json").read_text())
    config["config"] |= {"vocabulary_size": 60, "hidden_dim": 8, "intermediate_dim": 8}
    config["config"] |= {"num_layers": 1, "num_heads": 2, "key_value_dim": 4}
    (folder / "preset/config.json").write_text(json.dumps(config))
    _write_weights(folder / "preset/model.weights.h5")
    assert keras_spot.__version__


def _write_weights(file):
    """HDF5 with as many numbers as a preset of that description has, in nested groups."""
    import h5py

    with h5py.File(file, "w") as weights:
        for i, sides in enumerate([(60, 8), (8, 60), (8, 8), (8, 8), (8,), (32, 2)]):
            place = f"layers/block_{i // 2}/dense_{i}/vars/0"
            weights.create_dataset(place, data=np.ones(sides, "float32"))
        weights["layers"].attrs["name"] = "t5_backbone"
        weights.create_dataset("packed", data=np.ones((64, 64)), chunks=True, compression="gzip")


def write_whole_preset(folder):
    """A preset as this package saves one."""
    from keras_spot import backbones
    from keras_spot.backbones.converters import vocabulary
    from keras_spot.backbones.converters.architecture import Architecture

    shape = Architecture(8000, 8, 1, 1, 2, 4, 8, "relu", True, False)
    write_vocabulary(folder)
    with backbones.quiet_masks():
        tokenizer = vocabulary.read(folder / "spiece.model")
        backbones.save(shape.build(), tokenizer, folder / "preset")


def read_whole_preset(folder):
    from keras_spot import backbones

    return backbones.load(folder / "preset")


def read_preset(folder):
    from keras_spot.backbones.converters import kerashub, sources

    sources.kind(folder / "preset")
    return kerashub.check(folder / "preset")


def read_recipe(folder):
    from keras_spot import backbones

    return backbones.recipe_for(folder / "preset")


def write_vocabulary(folder):
    from keras_spot import backbones

    tiny = Path(backbones.EMBEDDED["tiny"])
    shutil.copyfile(tiny / "assets/tokenizer/vocabulary.spm", folder / "spiece.model")


def read_vocabulary(folder):
    from keras_spot.backbones.converters import vocabulary

    tokenizer = vocabulary.read(folder / "spiece.model")
    return tokenizer("a fine film")


# === Runs ===


def write_run(folder):
    (folder / "run").mkdir()
    np.savez(
        folder / "run/state.npz",
        prompt=PROMPT,
        step=np.int64(10),
        slot_0=np.int64(10),
        slot_1=np.ones(3, "float32"),
    )
    lines = [{"step": 5, "loss": 2.5, "score": 40.0}, {"step": 10, "loss": 1.5, "score": 50.0}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "run/metrics.jsonl").write_text(text)
    record = {"strategy": "best_of_top_k", "task": "glue/rte", "k": 1, "by": "per_token_cosine"}
    record |= {"embedding_steps": 10, "ranking": [["mr", 0.5], ["snli", 0.25]], "sources": ["mr"]}
    (folder / "run/transfer.json").write_text(json.dumps(record))


def read_state(folder):
    from keras_spot.training.run_folder import RunFolder

    return RunFolder(folder / "run").newest_step()


def read_metrics(folder):
    """A damaged line is left out, and the other is there."""
    from keras_spot.training.run_folder import RunFolder

    return RunFolder(folder / "run").metrics()


def write_transfer(folder):
    write_run(folder)
    (folder / "run/state.npz").unlink()
    (folder / "run/metrics.jsonl").unlink()


def read_transfer(folder):
    from keras_spot.training.run_folder import RunFolder
    from keras_spot.transfer import target

    return target._read_record(RunFolder(folder / "run"))


def read_lines(folder):
    from keras_spot.base import reading

    return list(reading.read_json_lines(folder / "run/metrics.jsonl"))


def read_archive(folder):
    from keras_spot.base.reading.arrays import open_npz

    with open_npz(folder / "run/state.npz") as archive:
        return {name: archive[name] for name in archive.files}


_part = functools.partial
ZARR = "target.encoder.prompt.prompt.prompt"
TABLE = "t5x/target.token_embedder.embedding"
MULTITASK = _part(read_prompt, name="adapter", task_id=1)
READERS = [
    Reader("prompt .npy", "npy", write_prompts, "p.npy", _part(read_prompt, name="p.npy"), 2),
    Reader("prompt .npz", "npz", write_prompts, "p.npz", _part(read_prompt, name="p.npz"), 2),
    Reader(
        "a run's run.json", "json", write_prompts, "run/run.json", _part(read_prompt, name="run")
    ),
    Reader(
        "a run's prompt",
        "npy",
        write_prompts,
        "run/numpy_checkpoints/checkpoint_5/encoder.prompt.prompt.prompt",
        _part(read_prompt, name="run"),
    ),
    Reader(
        "PEFT adapter_config.json",
        "json",
        write_prompts,
        "adapter/adapter_config.json",
        _part(read_prompt, name="adapter"),
    ),
    Reader(
        "PEFT weights",
        "safetensors",
        write_prompts,
        "adapter/adapter_model.safetensors",
        _part(read_prompt, name="adapter"),
    ),
    Reader(
        "PEFT multitask config",
        "json",
        write_multitask,
        "adapter/adapter_config.json",
        MULTITASK,
    ),
    Reader(
        "PEFT multitask weights",
        "safetensors",
        write_multitask,
        "adapter/adapter_model.safetensors",
        MULTITASK,
    ),
    Reader("T5X prompt, index", "msgpack", write_t5x, "checkpoint", _part(read_prompt, name=".")),
    Reader(
        "T5X prompt, .zarray", "json", write_t5x, f"{ZARR}/.zarray", _part(read_prompt, name=".")
    ),
    Reader("T5X prompt, chunk", "gzip", write_t5x, f"{ZARR}/1.0", _part(read_prompt, name=".")),
    Reader(
        "library, header", "json", write_library, "library/glue%2Fmnli/entry.json", read_library
    ),
    Reader(
        "library, summaries",
        "npy",
        write_library,
        "library/glue%2Fmnli/summaries.npy",
        read_library,
    ),
    Reader(
        "library, embedding",
        "npy",
        write_library,
        "library/glue%2Fmnli/embedding.npy",
        read_library,
    ),
    Reader("library entry", "json", write_library, "library/glue%2Fmnli/entry.json", read_entry),
    Reader(
        "library entry, prompt", "npz", write_library, "library/glue%2Fmnli/prompt.npz", read_entry
    ),
    Reader("study .yaml", "yaml", write_study, "study.yaml", _part(read_study, name="study.yaml")),
    Reader("study .json", "json", write_study, "study.json", _part(read_study, name="study.json")),
    Reader(
        "study folder, description",
        "json",
        write_study,
        "folder/study.json",
        read_study_description,
    ),
    Reader(
        "study folder, row",
        "json",
        write_study,
        "folder/cells/source--mr--all--0.json",
        read_study_folder,
    ),
    Reader(
        "study folder, failure",
        "json",
        write_study,
        "folder/failures/transfer--snli--glue.mrpc--all--1.json",
        read_study_folder,
        0.5,
    ),
    Reader(
        "study folder, claim",
        "json",
        write_study,
        "folder/claims/transfer--mr--glue.mrpc--all--1.0",
        read_study_folder,
        0.5,
    ),
    Reader("task .yaml", "yaml", write_task, "task.yaml", _part(read_task, name="task.yaml"), 2),
    Reader("task.json of an export", "json", write_card, "task.json", read_card),
    Reader("task .json", "json", write_task, "task.json", _part(read_task, name="task.json")),
    *(
        Reader(f"data {name}", kind, write_rows, name, _part(read_rows, name=name), 0.5)
        for name, kind in [
            ("rows.csv", "text"),
            ("rows.tsv", "text"),
            ("rows.csv.gz", "gzip"),
            ("rows.json", "json"),
            ("rows.jsonl", "jsonl"),
            ("rows.parquet", "parquet"),
        ]
    ),
    Reader("JSON lines", "jsonl", write_run, "run/metrics.jsonl", read_lines),
    Reader("arrays of .npz", "npz", write_run, "run/state.npz", read_archive, 0.5),
    Reader("a run's state", "npz", write_run, "run/state.npz", read_state),
    Reader("a run's metrics", "jsonl", write_run, "run/metrics.jsonl", read_metrics),
    Reader(
        "a transfer's record", "json", write_transfer, "run/transfer.json", read_transfer, 0.5, True
    ),
    Reader(
        "Hugging Face config.json",
        "json",
        write_hugging_face,
        "hf/config.json",
        _part(read_backbone, name="hf"),
        heavy=True,
    ),
    Reader(
        "Hugging Face weights",
        "safetensors",
        write_hugging_face,
        "hf/model.safetensors",
        _part(read_backbone, name="hf"),
        heavy=True,
    ),
    Reader(
        "Hugging Face index",
        "json",
        write_sharded,
        "hf/model.safetensors.index.json",
        _part(read_backbone, name="hf"),
        heavy=True,
    ),
    Reader(
        "T5X backbone, index",
        "msgpack",
        write_t5x_model,
        "t5x/checkpoint",
        _part(read_backbone, name="t5x"),
        heavy=True,
    ),
    Reader(
        "T5X backbone, .zarray",
        "json",
        write_t5x_model,
        f"{TABLE}/.zarray",
        _part(read_backbone, name="t5x"),
        heavy=True,
    ),
    Reader(
        "T5X backbone, whole",
        "gzip",
        write_t5x_model,
        f"{TABLE}/0.0",
        _part(read_backbone, name="t5x", whole=True),
        0.1,
        heavy=True,
    ),
    Reader("preset config.json", "json", write_preset, "preset/config.json", read_preset),
    Reader("preset tokenizer.json", "json", write_preset, "preset/tokenizer.json", read_preset),
    Reader("preset weights", "hdf5", write_preset, "preset/model.weights.h5", read_preset, 2),
    *(
        Reader(
            f"preset {name}, whole",
            kind,
            write_whole_preset,
            f"preset/{name}",
            read_whole_preset,
            0.1,
            heavy=True,
        )
        for name, kind in [
            ("config.json", "json"),
            ("model.weights.h5", "hdf5"),
            ("tokenizer.json", "json"),
            ("assets/tokenizer/vocabulary.spm", "protobuf"),
        ]
    ),
    Reader("preset recipe.json", "json", write_preset, "preset/recipe.json", read_recipe),
    Reader(
        "SentencePiece model",
        "protobuf",
        write_vocabulary,
        "spiece.model",
        read_vocabulary,
        0.5,
        heavy=True,
    ),
]
BY_NAME = {reader.name: reader for reader in READERS}
