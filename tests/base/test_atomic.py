import errno
import json
import os
import stat
import subprocess
import sys
import threading

import pytest

from keras_spot.base import atomic, leftovers, ownership
from keras_spot.base.atomic import atomic_folder, atomic_write
from keras_spot.base.ownership import Kind

KIND = Kind("thing", is_folder=True)
TEXT = Kind(
    "text",
    marked=lambda path: path.read_text().startswith("ours"),
    similar=lambda path: path.read_text().startswith("like ours"),
)


def write(path, text, **options):
    with atomic_folder(path, KIND, **options) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / text).write_text(text)


def names(path):
    return [name for name in ownership.listing(path) if name != ownership.MARKER]


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
        write(path, text)
        assert names(path) == [f"sub/{text}"]
    with pytest.raises(RuntimeError), atomic_folder(path, KIND) as folder:
        (folder / "three").write_text("three")
        raise RuntimeError
    assert names(path) == ["sub/two"]
    assert os.listdir(path.parent) == ["folder"]


def test_a_file_is_no_folder_and_a_folder_no_file(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotADirectoryError):
        write(tmp_path / "file", "a")
    with pytest.raises(IsADirectoryError), atomic_write(tmp_path / "folder"):
        pass
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


# === Whose it is ===


def add_file(path):
    (path / "sub" / "thesis.txt").write_text("years of work")


def add_empty_folder(path):
    (path / "thesis").mkdir()


def add_link(path):
    (path / "thesis").symlink_to(path.parent)


def lose_the_marker(path):
    (path / ownership.MARKER).unlink()


def other_kind(path):
    record = json.loads((path / ownership.MARKER).read_text())
    (path / ownership.MARKER).write_text(json.dumps({**record, "kind": "other"}))


def own_marker(path):
    (path / ownership.MARKER).write_text('["a note of mine"]')


def deep_marker(path):
    (path / ownership.MARKER).write_text("[" * 100_000)


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (add_file, "sub/thesis.txt"),
        (add_empty_folder, "thesis/"),
        (add_link, "thesis"),
        (lose_the_marker, "sub/"),
        (other_kind, "keras_spot.json, sub/"),
        (own_marker, "keras_spot.json, sub/"),
        (deep_marker, "keras_spot.json, sub/"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_anything_of_another_is_never_replaced(tmp_path, change, shown, overwrite):
    path = tmp_path / "folder"
    write(path, "one")
    change(path)
    before = ownership.listing(path)
    with pytest.raises(ValueError) as error:
        write(path, "two", overwrite=overwrite)
    assert str(error.value) == (
        "`path` must be new, empty or hold nothing but a thing that keras_spot wrote (choose "
        f"another, or empty it yourself). Received: {path} (holds {shown})"
    )
    assert ownership.listing(path) == before
    assert os.listdir(tmp_path) == ["folder"]


def test_a_changed_folder_of_ours_is_replaced_when_told_to(tmp_path):
    path = tmp_path / "folder"
    write(path, "one")
    (path / "sub" / "one").write_text("two")
    with pytest.raises(ValueError) as error:
        write(path, "three")
    assert str(error.value) == (
        "`path` must be a thing that nobody changed, or `overwrite` be set to replace it. "
        f"Received: {path} (changed: sub/one)"
    )
    assert (path / "sub" / "one").read_text() == "two"
    write(path, "three", overwrite=True)
    assert names(path) == ["sub/three"]
    (path / "sub" / "three").unlink()  # what is missing can no more be lost
    write(path, "four")


def test_many_names_are_counted(tmp_path):
    for name in "abcde":
        (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=r"\(holds a, b, c and 2 more\)$"):
        write(tmp_path, "one")


def test_a_large_file_is_known_by_its_ends(tmp_path):
    path = tmp_path / "folder"
    with atomic_folder(path, KIND) as folder:
        (folder / "weights").write_bytes(bytes(5 << 20))
    with open(path / "weights", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"1")
    with pytest.raises(ValueError, match="changed: weights"):
        write(path, "one")


@pytest.mark.parametrize(
    ("text", "options", "replaced"),
    [
        ("", {}, True),
        ("ours", {}, True),
        ("ours", {"strict": True}, True),
        ("like ours", {}, True),
        ("like ours", {"strict": True}, False),
        ("thesis", {}, False),
        ("thesis", {"overwrite": True}, True),
        ("thesis", {"overwrite": True, "strict": True}, True),
    ],
)
def test_which_files_may_be_replaced(tmp_path, text, options, replaced):
    path = tmp_path / "a.txt"
    assert ownership.check(path, TEXT, **options) is False
    path.write_text(text)
    if replaced:
        assert ownership.check(path, TEXT, **options) is bool(text)
        return
    with pytest.raises(ValueError) as error:
        ownership.check(path, TEXT, **options)
    assert str(error.value) == (
        "`path` must be new, or `overwrite` be set to replace what is there. Received: "
        f"{path} ({len(text)} bytes, not recognised as text of keras_spot)"
    )


def test_a_file_of_another_kind_stays(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("thesis")
    with pytest.raises(ValueError), atomic_write(path, "w", TEXT) as file:
        file.write("ours")
    assert path.read_text() == "thesis"
    with atomic_write(path, "w", TEXT, overwrite=True) as file:
        file.write("ours")
    assert path.read_text() == "ours"
    path.chmod(0o640)
    with atomic_write(path, "w", TEXT) as file:
        file.write("ours again")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


# === What comes in between ===


def test_a_file_that_appears_while_the_folder_is_written(tmp_path):
    for name in ("new", "empty", "own"):
        path = tmp_path / name
        if name == "empty":
            path.mkdir()
        if name == "own":
            write(path, "one")
        before = ownership.listing(path) if path.exists() else []
        with (
            pytest.raises(ValueError, match=r"holds thesis\.txt"),
            atomic_folder(path, KIND) as new,
        ):
            (new / "two").write_text("two")
            path.mkdir(exist_ok=True)
            (path / "thesis.txt").write_text("years of work")
        assert ownership.listing(path) == sorted([*before, "thesis.txt"])
    assert sorted(os.listdir(tmp_path)) == ["empty", "new", "own"]


@pytest.mark.parametrize("can", ["exchange", "two renames"])
def test_a_file_that_appears_at_the_last_moment(tmp_path, monkeypatch, can):
    path = tmp_path / "folder"
    write(path, "one")
    before = ownership.listing(path)
    rename, exchange = os.rename, atomic.exchange

    def late(source, target):
        if source == path and (path / "sub" / "one").exists():
            (path / "thesis.txt").write_text("years of work")
        return exchange(source, target) if can == "exchange" else rename(source, target)

    if can == "exchange":
        monkeypatch.setattr(atomic, "exchange", late)
    else:
        monkeypatch.setattr(atomic, "exchange", lambda *names: False)
        monkeypatch.setattr(atomic.os, "rename", late)
    with pytest.raises(ValueError, match=r"holds thesis\.txt"):
        write(path, "two")
    assert ownership.listing(path) == sorted([*before, "thesis.txt"])
    assert os.listdir(tmp_path) == ["folder"]


def test_a_file_that_appears_even_later_is_kept_and_named(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    write(path, "one")
    remove = atomic._remove

    def late(folder, listed):
        (folder / "thesis.txt").write_text("years of work")
        remove(folder, listed)

    monkeypatch.setattr(atomic, "_remove", late)
    with pytest.raises(OSError, match="kept, for somebody put a file into it") as error:
        write(path, "two")
    assert names(path) == ["sub/two"]
    assert error.value.errno == errno.ENOTEMPTY
    assert os.path.exists(os.path.join(error.value.filename, "thesis.txt")) or any(
        tmp_path.glob(".keras_spot-*/*/thesis.txt")
    )


def test_a_file_that_appears_while_the_file_is_written(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(ValueError), atomic_write(path, "w", TEXT) as file:
        file.write("ours")
        path.write_text("thesis")
    assert path.read_text() == "thesis"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_two_writers_of_one_folder(tmp_path):
    path = tmp_path / "folder"
    threads = [threading.Thread(target=write, args=(path, f"t{i}")) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(path)) == 1
    assert os.listdir(tmp_path) == ["folder"]


# === Places ===


def test_links_are_written_through(tmp_path):
    (tmp_path / "to_folder").symlink_to("folder")
    (tmp_path / "to_file").symlink_to("a.txt")
    for text in ("one", "two"):
        write(tmp_path / "to_folder", text)
        with atomic_write(tmp_path / "to_file", "w") as file:
            file.write(text)
        assert names(tmp_path / "folder") == [f"sub/{text}"]
        assert (tmp_path / "a.txt").read_text() == text
    assert (tmp_path / "to_folder").is_symlink()
    assert (tmp_path / "to_file").is_symlink()


def test_the_current_folder_stays_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in ("one", "two"):
        write(".", text)
        assert names(tmp_path) == [f"sub/{text}"]
        assert os.path.samefile(".", tmp_path)
        assert sorted(os.listdir(".")) == [ownership.MARKER, "sub"]
    (tmp_path / "thesis.txt").write_text("")
    for place in (".", "..", "sub/.."):
        with pytest.raises(ValueError, match="holds "):
            write(place, "three")


def test_an_empty_folder_is_filled(tmp_path):
    path = tmp_path / "folder"
    path.mkdir(mode=0o750)
    inode = path.stat().st_ino
    with pytest.raises(RuntimeError), atomic_folder(path, KIND):
        raise RuntimeError
    assert os.listdir(path) == []
    (path / f"{ownership.SCRATCH}killed").mkdir()  # what a killed writer leaves is no obstacle
    write(path, "one")
    assert names(path) == ["sub/one"]
    assert (path.stat().st_ino, stat.S_IMODE(path.stat().st_mode)) == (inode, 0o750)


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="needs device files")
def test_a_device_or_a_pipe_gets_the_bytes():
    with atomic_write("/dev/null", "w", TEXT) as file:
        file.write("one")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    program = (
        "from keras_spot.base.atomic import atomic_write\n"
        "with atomic_write('/dev/stdout') as file: file.write(b'one')"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert run.stdout == b"one"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_read_only_file_stays(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("ours")
    path.chmod(0o444)
    with pytest.raises(PermissionError), atomic_write(path, "w", TEXT, overwrite=True):
        pass
    assert path.read_text() == "ours"


# === Kills ===

KILLED = """
import os, pathlib, sys
from keras_spot.base import atomic, swap
from keras_spot.base.ownership import Kind

path, where, can = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "exchange"
if not can:
    atomic.exchange = lambda *names: False
rename, exchange, count = os.rename, atomic.exchange, 0

def dying(*names):
    global count
    if pathlib.Path(names[0]).name == "new" and where != "before":
        return rename(*names)
    if where in ("before", str(count)):
        os._exit(9)
    count += 1
    return rename(*names)

if sys.argv[4] == "remove":
    os.unlink = dying
    rename = os.remove
else:
    os.rename = dying
if sys.argv[4] == "file":
    with atomic.atomic_write(path, "w") as file:
        file.write("two")
        file.flush()
        os._exit(9)
with atomic.atomic_folder(path, Kind("thing", is_folder=True)) as folder:
    (folder / "sub").mkdir()
    (folder / "sub" / "two").write_text("two")
"""


def killed(path, where, can, what="folder"):
    words = [sys.executable, "-c", KILLED, str(path), str(where), can, what]
    assert subprocess.run(words, check=False).returncode == 9


@pytest.mark.parametrize(
    ("can", "where"), [("exchange", 0), ("two renames", 0), ("two renames", 1)]
)
def test_a_kill_between_the_renames(tmp_path, can, where):
    """With an exchange the name always stands for one; else the next writer gives it back."""
    path = tmp_path / "folder"
    write(path, "one")
    killed(path, where, can)
    if can == "exchange":
        assert names(path) == ["sub/two"]
    elif where == 1:
        assert not path.exists()
    leftovers._looked.clear()
    write(tmp_path / "other", "x")
    assert sorted(os.listdir(tmp_path)) == ["folder", "other"]
    assert names(path) in (["sub/one"], ["sub/two"])
    write(path, "three")
    assert names(path) == ["sub/three"]


@pytest.mark.parametrize("files", range(4))
def test_a_kill_while_the_older_folder_is_removed(tmp_path, files):
    path = tmp_path / "folder"
    with atomic_folder(path, Kind("thing", is_folder=True)) as folder:
        for name in ("a", "l", "z"):
            (folder / name).write_text(name)
    killed(path, files, "exchange", "remove")
    leftovers._looked.clear()
    write(tmp_path / "other", "x")
    assert sorted(os.listdir(tmp_path)) == ["folder", "other"]
    assert names(path) == ["sub/two"]


def test_temporaries_of_the_dead_are_cleared_and_no_others(tmp_path):
    killed(tmp_path / "a.txt", 0, "exchange", "file")
    (left,) = os.listdir(tmp_path)
    *_, pid, started, _ = left.split("-")
    others = [
        ".a.txt.x2k9w0ab",  # without a process
        left.replace(f"-{pid}-", f"-{os.getpid()}-").replace(f"-{started}-", "-0-")[:-1] + "A",
        ".a.txt.00000000-1-1-x2k9w0ab",  # another host's
        f"{leftovers.prefix('.a.txt.')}x2k9w0ab",  # ours, alive
    ]
    for name in others:
        (tmp_path / name).write_text("kept")
    leftovers._looked.clear()
    with atomic_write(tmp_path / "a.txt", "w") as file:
        file.write("one")
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "a.txt"])


def test_a_killed_swap_never_loses_a_strangers_file(tmp_path):
    """What somebody put into the older folder stays, wherever the kill left it."""
    path = tmp_path / "folder"
    write(path, "one")
    killed(path, 0, "exchange")
    (left,) = [name for name in os.listdir(tmp_path) if name != "folder"]
    (tmp_path / left / "ready" / "mine.txt").write_text("mine")
    leftovers._looked.clear()
    write(tmp_path / "other", "x")
    assert (tmp_path / left / "ready" / "mine.txt").read_text() == "mine"
    assert not (tmp_path / left / "ready" / "sub").exists()


def test_half_of_a_folder_is_cleared_whatever_a_loss_of_power_left_in_it(tmp_path):
    path = tmp_path / "folder"
    write(path, "one")
    killed(path, "before", "exchange")
    (left,) = [name for name in os.listdir(tmp_path) if name != "folder"]
    for file in (ownership.MARKER, "sub/two"):
        os.truncate(tmp_path / left / "new" / file, 0)
    leftovers._looked.clear()
    write(tmp_path / "other", "x")
    assert sorted(os.listdir(tmp_path)) == ["folder", "other"]
    assert names(path) == ["sub/one"]


def test_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError) as error, atomic_write(tmp_path / "a") as file:
        file.write(b"x")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert error.value.filename == str(tmp_path / "a")
    assert os.listdir(tmp_path) == []
