"""A disk that keeps only what was synced: what would be left of a folder if the power went."""

import os
import shutil
from pathlib import Path


class Disk:
    """Remembers what of a folder is on disk.

    A file has the bytes of its last `fsync`, none if there was none. A folder has the names of its
    last `fsync`, or those of now: file systems may write names before they are asked to. What lies
    in the folder at first is on disk.

    Args:
        root: the folder.
    """

    def __init__(self, root):
        self.root = Path(root)
        self.bytes, self.names, self._held = {}, {}, {}
        for folder, _, files in os.walk(root):
            self._keep(folder)
            for name in files:
                self._keep(os.path.join(folder, name))

    def synced(self, handle):
        """Note that an open file or folder has been put on disk."""
        self._keep(os.readlink(f"/proc/self/fd/{handle}"))

    def image(self, synced):
        """Return path -> bytes of what would be left, None for an empty folder.

        Args:
            synced: folders have the names of their last `fsync`, else those of now.
        """
        now = {os.stat(top).st_ino: top for top, _, _ in os.walk(self.root)}
        return dict(self._files(os.stat(self.root).st_ino, "", now, synced))

    def write_image(self, folder, synced):
        """Write what would be left into a new folder."""
        shutil.rmtree(folder, ignore_errors=True)
        Path(folder).mkdir(parents=True)
        for name, content in self.image(synced).items():
            place = Path(folder, name)
            if content is None:
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)

    def _files(self, inode, inside, now, synced):
        names = self.names.get(inode, {}) if synced else _inside(now[inode])
        if not names and inside:
            yield inside, None
        for name, (child, is_folder) in names.items():
            if is_folder:
                yield from self._files(child, f"{inside}{name}/", now, synced)
            else:
                yield f"{inside}{name}", self.bytes.get(child, b"")

    def _keep(self, path):
        try:
            inode = os.stat(path).st_ino
            if inode not in self._held:  # held open, so that no other file gets its number
                self._held[inode] = os.open(path, os.O_RDONLY)
            if os.path.isdir(path):
                self.names[inode] = _inside(path)
            else:
                self.bytes[inode] = Path(path).read_bytes()
        except FileNotFoundError:  # it has lost its name meanwhile
            pass


def _inside(folder):
    with os.scandir(folder) as entries:
        return {e.name: (e.inode(), e.is_dir(follow_symlinks=False)) for e in entries}
