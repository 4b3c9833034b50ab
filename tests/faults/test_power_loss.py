"""Power loss: a disk that keeps only what was synced, looked at around every call that matters."""

import os

import disk
import numpy as np
import pytest

from keras_spot import PromptLibrary, prompts
from keras_spot.base import atomic, swap
from keras_spot.base.ownership import MARKER, Kind
from keras_spot.training.run_folder import RunFolder

OLD, NEW = np.ones((2, 3), "float32"), np.zeros((2, 3), "float32")


class Watched(disk.Disk):
    """A disk that is looked at around every call that matters."""

    def __init__(self, root, monkeypatch):
        super().__init__(root)
        self.images = []
        fsync = os.fsync

        def watched(handle):
            fsync(handle)
            self.synced(handle)
            self.look()

        monkeypatch.setattr(os, "fsync", watched)
        for owner, name in ((os, "rename"), (os, "replace"), (atomic, "exchange")):
            monkeypatch.setattr(owner, name, self._around(getattr(owner, name)))

    def look(self):
        """Keep both images of this moment."""
        self.images += [self.image(synced=True), self.image(synced=False)]

    def _around(self, function):
        def call(*names):
            self.look()
            done = function(*names)
            self.look()
            return done

        return call


def folder_of(image, name):
    return {
        path: data
        for path, data in image.items()
        if path.startswith(f"{name}/") and data is not None
    }


@pytest.mark.parametrize("name", ["p.npz", "p.npy"])
def test_a_prompt_is_the_old_or_the_new_one(tmp_path, monkeypatch, name):
    prompts.write(tmp_path / name, OLD)
    before = (tmp_path / name).read_bytes()
    disk = Watched(tmp_path, monkeypatch)
    prompts.write(tmp_path / name, NEW)
    after = (tmp_path / name).read_bytes()
    assert len(disk.images) > 4
    assert {image[name] for image in disk.images} <= {before, after}
    assert disk.image(synced=True) == {name: after}


@pytest.mark.parametrize("can", [True, False])
def test_a_folder_is_the_old_or_the_new_one(tmp_path, monkeypatch, can):
    """Or, without an exchange, for a moment under no name, and never half of one."""

    def write(text):
        with atomic.atomic_folder(tmp_path / "folder", Kind("thing", is_folder=True)) as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / "text").write_text(text)

    def content():
        names = ("sub/text", MARKER)
        return {f"folder/{name}": (tmp_path / "folder" / name).read_bytes() for name in names}

    if not can:
        monkeypatch.setattr(atomic, "exchange", lambda *names: False)
    elif swap._renameat2() is None:
        pytest.skip("the system cannot exchange")
    write("one")
    before = content()
    disk = Watched(tmp_path, monkeypatch)
    write("two")
    after = content()
    allowed = [before, after] if can else [before, after, {}]
    assert [f for f in (folder_of(i, "folder") for i in disk.images) if f not in allowed] == []
    assert folder_of(disk.image(synced=True), "folder") == after


def test_the_names_of_new_folders_are_on_disk_with_what_is_in_them(tmp_path, monkeypatch):
    """Else a run's record could name a best step whose prompt went with the power."""
    disk = Watched(tmp_path, monkeypatch)
    file = prompts.step_path(tmp_path / "runs" / "run", 1)
    prompts.write(file, NEW)
    name = file.relative_to(tmp_path).as_posix()
    assert disk.image(synced=True) == {name: file.read_bytes()}


def test_what_was_cleared_away_does_not_come_back(tmp_path, monkeypatch):
    """A lock that was given back, and the folder that an entry was written in."""
    disk = Watched(tmp_path, monkeypatch)
    folder = RunFolder(tmp_path / "run")
    with folder.owner.owned():
        folder.open({"task": "t"})
    PromptLibrary(tmp_path / "library").add("new", NEW)
    names = {name.rpartition("/")[2] for name in disk.image(synced=True)}
    assert names == {"run.json", "entry.json", "prompt.npz", "summaries.npy"}


def test_an_entry_is_whole_or_absent(tmp_path, monkeypatch):
    library = PromptLibrary(tmp_path)
    library.add("old", OLD)
    disk = Watched(tmp_path, monkeypatch)
    library.add("new", NEW)
    now = folder_of(disk.image(synced=False), "new")
    assert len(now) == 3
    assert all(now.values())
    assert all(folder_of(image, "new") in ({}, now) for image in disk.images)
    assert folder_of(disk.image(synced=True), "new") == now
