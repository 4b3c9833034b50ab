import gzip
import shutil
import sys

import numpy as np
import pytest

from keras_spot.base import t5x_store

msgpack = pytest.importorskip("msgpack", reason="needs the extra [t5x]")

TABLE = "target.token_embedder.embedding"
NORM = "target.encoder.encoder_norm.scale"


@pytest.fixture
def folder(shared, tmp_path):
    """A copy of a real checkpoint: its index, and one array beside it."""
    source = shared / "data/t5x/tiny_checkpoint_3"
    (tmp_path / "checkpoint_3").mkdir()
    shutil.copyfile(source / "checkpoint", tmp_path / "checkpoint_3/checkpoint")
    (tmp_path / "checkpoint_3" / TABLE).mkdir()
    for file in (source / TABLE).iterdir():
        shutil.copyfile(file, tmp_path / "checkpoint_3" / TABLE / file.name)
    return tmp_path / "checkpoint_3"


def test_names_and_shapes_are_known_without_the_arrays(folder):
    shutil.rmtree(folder / TABLE)
    index = t5x_store.read_index(folder)
    assert index[TABLE] == t5x_store.Stored((32128, 4), "<f4", TABLE)
    assert index[NORM].shape == (4,)
    assert int(index["state.step"]) == 3


def test_arrays_in_the_index_and_beside_it(folder):
    index = t5x_store.read_index(folder)
    assert t5x_store.read_array(folder, NORM, index) is index[NORM]
    actual = t5x_store.read_array(folder, TABLE)
    # The chunks are plain: rows of the table, compressed.
    chunks = [gzip.decompress((folder / TABLE / f"{i}.0").read_bytes()) for i in range(8)]
    expected = np.frombuffer(b"".join(chunks), "<f4").reshape(-1, 4)[:32128]
    np.testing.assert_array_equal(actual, expected)


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


DAMAGE = {
    "a truncated chunk": lambda folder: cut(folder / TABLE / "3.0"),
    "a missing chunk": lambda folder: (folder / TABLE / "3.0").unlink(),
    "a missing folder": lambda folder: shutil.rmtree(folder / TABLE),
    "no description": lambda folder: (folder / TABLE / ".zarray").write_text("{"),
    "another shape": lambda folder: (folder / TABLE / ".zarray").write_text(
        (folder / TABLE / ".zarray").read_text().replace("32128", "32000")
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_arrays(folder, damage):
    DAMAGE[damage](folder)
    with pytest.raises(ValueError) as error:
        t5x_store.read_array(folder, TABLE)
    start = f"`path` must hold whole zarr arrays. Received: {folder / TABLE}"
    assert str(error.value).startswith(start)
    assert "\n" not in str(error.value)


def test_damaged_indexes(folder):
    whole = (folder / "checkpoint").read_bytes()
    for content in (b"", whole[:-1], whole[:1000], b"hello", msgpack.packb([1]), whole + b"x"):
        (folder / "checkpoint").write_bytes(content)
        with pytest.raises(ValueError, match=r"^`path` must hold a whole T5X index\. Received: "):
            t5x_store.read_index(folder)
    (folder / "checkpoint").unlink()
    with pytest.raises(FileNotFoundError, match=r"^`path` must hold the file checkpoint\. Rec"):
        t5x_store.read_index(folder)


def test_unknown_names_and_a_missing_package(folder, monkeypatch):
    with pytest.raises(ValueError) as error:
        t5x_store.read_array(folder, "target.nothing")
    assert str(error.value) == f"`path` must hold the array target.nothing. Received: {folder}"
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(ModuleNotFoundError) as error:
        t5x_store.read_index(folder)
    assert str(error.value) == (
        "`path` must not be a T5X checkpoint where keras-spot[t5x] is not installed. "
        "Received: no msgpack"
    )
