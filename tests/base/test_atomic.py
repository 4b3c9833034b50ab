import os

import pytest

from keras_spot.base.atomic import atomic_folder, atomic_write


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path, "w") as file:
        file.write("one")
        assert not path.exists()
    with pytest.raises(RuntimeError), atomic_write(path, "w") as file:
        file.write("two")
        raise RuntimeError
    assert path.read_text() == "one"
    assert os.listdir(path.parent) == ["a.txt"]


def test_a_folder_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "new" / "folder"
    for text in ("one", "two"):
        with atomic_folder(path) as folder:
            (folder / text).write_text(text)
        assert os.listdir(path) == [text]
    with pytest.raises(RuntimeError), atomic_folder(path) as folder:
        (folder / "three").write_text("three")
        raise RuntimeError
    assert os.listdir(path) == ["two"]
    assert os.listdir(path.parent) == ["folder"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError), atomic_folder(tmp_path / "file"):
        pass
