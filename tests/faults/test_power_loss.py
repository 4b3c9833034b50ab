"""Power loss: a disk that keeps only what was synced, looked at around every call that matters."""

import os
from pathlib import Path

import numpy as np
import pytest

from keras_spot import PromptLibrary, prompts
from keras_spot.base import atomic, swap
from keras_spot.base.ownership import MARKER, Kind

OLD, NEW = np.ones((2, 3), "float32"), np.zeros((2, 3), "float32")


class Disk:
    """What would be left of a folder if the power went now.

    A file has the bytes of its last `fsync`, none if there was none. A folder has the names of its
    last `fsync`, or those of now: file systems may write names before they are asked to.
    """

    def __init__(self, root, monkeypatch):
        self.root = Path(root)
        self.bytes, self.names, self.images = {}, {}, []
        for folder, _, files in os.walk(root):
            self._sync(folder)
            for name in files:
                self._sync(os.path.join(folder, name))
        fsync = os.fsync

        def synced(handle):
            fsync(handle)
            self._sync(os.readlink(f"/proc/self/fd/{handle}"))
            self.look()

        monkeypatch.setattr(os, "fsync", synced)
        for owner, name in ((os, "rename"), (os, "replace"), (atomic, "exchange")):
            monkeypatch.setattr(owner, name, self._watched(getattr(owner, name)))

    def look(self):
        """Keep both images of this moment."""
        self.images += [self.image(synced=True), self.image(synced=False)]

    def image(self, synced):
        """Return path -> bytes of what would be left."""
        return dict(self._files(self.root, "", synced))

    def _files(self, folder, inside, synced):
        now = {name: os.stat(folder / name).st_ino for name in os.listdir(folder)}
        known = self.names.get(os.stat(folder).st_ino, {}) if synced else now
        places = {os.stat(Path(top, name)).st_ino: Path(top, name) for top, name in self._all()}
        for name, inode in known.items():
            place = places.get(inode)
            if place is not None and place.is_dir():
                yield from self._files(place, f"{inside}{name}/", synced)
            else:
                yield f"{inside}{name}", self.bytes.get(inode, b"")

    def _all(self):
        for top, folders, files in os.walk(self.root):
            yield from ((top, name) for name in (*folders, *files))

    def _sync(self, path):
        inode = os.stat(path).st_ino
        if os.path.isdir(path):
            inside = os.listdir(path)
            self.names[inode] = {n: os.stat(os.path.join(path, n)).st_ino for n in inside}
        else:
            self.bytes[inode] = Path(path).read_bytes()

    def _watched(self, function):
        def call(*names):
            self.look()
            done = function(*names)
            self.look()
            return done

        return call


def folder_of(image, name):
    return {path: data for path, data in image.items() if path.startswith(f"{name}/")}


@pytest.mark.parametrize("name", ["p.npz", "p.npy"])
def test_a_prompt_is_the_old_or_the_new_one(tmp_path, monkeypatch, name):
    prompts.write(tmp_path / name, OLD)
    before = (tmp_path / name).read_bytes()
    disk = Disk(tmp_path, monkeypatch)
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
    disk = Disk(tmp_path, monkeypatch)
    write("two")
    after = content()
    allowed = [before, after] if can else [before, after, {}]
    assert [f for f in (folder_of(i, "folder") for i in disk.images) if f not in allowed] == []
    assert folder_of(disk.image(synced=True), "folder") == after


def test_an_entry_is_whole_or_absent(tmp_path, monkeypatch):
    library = PromptLibrary(tmp_path)
    library.add("old", OLD)
    disk = Disk(tmp_path, monkeypatch)
    library.add("new", NEW)
    now = folder_of(disk.image(synced=False), "new")
    assert len(now) == 3
    assert all(now.values())
    assert all(folder_of(image, "new") in ({}, now) for image in disk.images)
    assert folder_of(disk.image(synced=True), "new") == now
