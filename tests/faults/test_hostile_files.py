"""A sample of the hostile files over every reader, and those that were once let in.

`python -m tests.faults --full` reads 20,000 of them; README.md beside this file has its table.
"""

import gzip
import io
import json
import struct
import zipfile

import hostile_seeds
import hostile_trial
import numpy as np
import pytest

from keras_spot.base.errors import DamagedFile, InvalidArgument

LIGHT = [reader for reader in hostile_seeds.READERS if not reader.heavy]


@pytest.mark.usefixtures("out_of_sight")  # the seconds are those of the reading alone
@pytest.mark.parametrize("part", range(4))
def test_a_sample_of_hostile_files(part):
    """Nothing crashes, hangs, grows or escapes, and every message names its file."""
    rows = [hostile_trial.read_here(reader, 12) for reader in LIGHT[part::4]]
    assert [row["examples"] for row in rows if row["faults"]] == []


def huge_zarr(folder):
    """Index and description agree on an array of 400 terabytes."""
    import msgpack

    hostile_seeds.write_t5x(folder)
    file = folder / hostile_seeds.ZARR / ".zarray"
    header = {**json.loads(file.read_text()), "shape": [10**9, 10**5]}
    file.write_text(json.dumps(header))
    tree = msgpack.unpackb((folder / "checkpoint").read_bytes())
    leaf = tree["optimizer"]["target"]["encoder"]["prompt"]["prompt"]["prompt"]
    leaf["metadata"]["shape"] = [10**9, 10**5]
    (folder / "checkpoint").write_bytes(msgpack.packb(tree))


def one_huge_chunk(folder):
    huge_zarr(folder)
    file = folder / hostile_seeds.ZARR / ".zarray"
    header = {**json.loads(file.read_text()), "chunks": [10**9, 10**5]}
    file.write_text(json.dumps(header))
    (folder / hostile_seeds.ZARR / "0.0").write_bytes(gzip.compress(bytes(1 << 27)))


def bomb(folder, member="prompt"):
    """Zeros: 1.5 GB in 1.5 MB."""
    hostile_seeds.write_prompts(folder)
    rows = 1_500_000_000 // 16
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, 4), }}".encode()
    with zipfile.ZipFile(folder / "p.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open(f"{member}.npy", "w") as stream:
            stream.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)
            for _ in range(1_500):
                stream.write(bytes(1_000_000))
        if member != "prompt":
            stream = io.BytesIO()
            np.save(stream, hostile_seeds.PROMPT)
            archive.writestr("prompt.npy", stream.getvalue())


def huge_config(folder):
    hostile_seeds.write_hugging_face(folder)
    sizes = {"num_layers": 10**9, "d_model": 10**6, "vocab_size": 10**9}
    config = {**hostile_seeds.CONFIG, "num_decoder_layers": 10**9, **sizes}
    (folder / "hf/config.json").write_text(json.dumps(config))


def wide_config(folder):
    hostile_seeds.write_hugging_face(folder)
    config = {**hostile_seeds.CONFIG, "d_model": 10**6, "vocab_size": 10**9}
    (folder / "hf/config.json").write_text(json.dumps(config))


def huge_preset(folder):
    hostile_seeds.write_preset(folder)
    record = json.loads((folder / "preset/config.json").read_text())
    record["config"] |= {"vocabulary_size": 10**9, "hidden_dim": 10**6}
    (folder / "preset/config.json").write_text(json.dumps(record))


def unallocated_weights(folder):
    import h5py

    hostile_seeds.write_preset(folder)
    with h5py.File(folder / "preset/model.weights.h5", "a") as weights:
        weights.create_dataset("huge", (10**9, 10**5), "float32", chunks=(1, 100))


def linked_weights(folder):
    import h5py

    hostile_seeds.write_preset(folder)
    with h5py.File(folder / "preset/model.weights.h5", "a") as weights:
        weights["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/x")


def nested_anchors(folder):
    hostile_seeds.write_task(folder)
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{c}: &{c} [{', '.join([f'*{b}'] * 9)}]" for b, c in zip("abcdefgh", "bcdefghi")]
    (folder / "study.yaml").write_text("\n".join(lines))


def packed_zeros(folder, name, start=b""):
    """A file of 100 KB that is 100 MB unpacked."""
    hostile_seeds.write_rows(folder)
    (folder / name).write_bytes(gzip.compress(start + bytes(100_000_000), compresslevel=1))


NAMED = {
    "index and .zarray of 400 TB": (huge_zarr, "T5X prompt, index"),
    "one chunk of 400 TB": (one_huge_chunk, "T5X prompt, index"),
    "1.5 GB of zeros": (bomb, "prompt .npz"),
    "a provenance of 1.5 GB": (lambda f: bomb(f, "provenance"), "prompt .npz"),
    "config.json of 10^9 layers": (huge_config, "Hugging Face config.json"),
    "config.json of width 10^6": (wide_config, "Hugging Face config.json"),
    "preset of width 10^6": (huge_preset, "preset config.json"),
    "HDF5 of 400 TB": (unallocated_weights, "preset weights"),
    "HDF5 with a link": (linked_weights, "preset weights"),
    "one packed line of 100 MB": (lambda f: packed_zeros(f, "rows.csv.gz"), "data rows.csv.gz"),
    "one packed cell of 100 MB": (
        lambda f: packed_zeros(f, "rows.csv.gz", b'text,label\n"'),
        "data rows.csv.gz",
    ),
    "nested anchors": (nested_anchors, "study .yaml"),
}


@pytest.mark.parametrize("name", NAMED)
def test_files_that_were_once_let_in(name, tmp_path):
    write, reader = NAMED[name]
    write(tmp_path)
    outcome = hostile_trial.judged(hostile_seeds.BY_NAME[reader], tmp_path)
    assert outcome["result"] == "refused"
    assert outcome["own"], outcome
    assert str(tmp_path) in outcome["messages"][0]
    assert len(outcome["messages"][0]) < 1_000
    assert outcome["megabytes"] < hostile_trial.MEGABYTES
    assert outcome["seconds"] < hostile_trial.SECONDS


def test_a_damaged_file_is_an_invalid_argument(tmp_path):
    hostile_seeds.write_prompts(tmp_path)
    (tmp_path / "p.npz").write_bytes(b"PK")
    with pytest.raises(DamagedFile) as error:
        hostile_seeds.BY_NAME["prompt .npz"].read(tmp_path)
    assert isinstance(error.value, InvalidArgument)
    assert isinstance(error.value.__cause__, zipfile.BadZipFile)
