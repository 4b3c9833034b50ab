import functools
import http.server
import os
import pathlib
import sys
import threading
import time

import pytest

from keras_spot.base import remote
from keras_spot.base.atomic import atomic_folder
from keras_spot.base.ownership import Kind

TEXT = Kind("text", marked=lambda path: path.read_text().startswith("ours"))
FOLDER = Kind("thing", is_folder=True)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_SPOT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Quiet(http.server.SimpleHTTPRequestHandler):
    cut = False

    def log_message(self, *args):
        pass

    def copyfile(self, source, outputfile):
        super().copyfile(source, outputfile) if not self.cut else outputfile.write(source.read(3))


@pytest.fixture
def site(tmp_path):
    """A folder and the address at which a web server shows it."""
    folder = tmp_path / "site"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def memory():
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def files_below(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def entries(cache):
    return os.listdir(cache) if cache.exists() else []


def test_local_paths_come_back_as_they_are(tmp_path):
    assert remote.fetch("some/file") == pathlib.Path("some/file")
    assert remote.fetch(tmp_path) == tmp_path


def test_a_web_file_is_fetched_once_and_again_when_it_has_changed(site, cache):
    folder, url = site
    (folder / "p.npy").write_bytes(b"first")
    actual = remote.fetch(f"{url}/p.npy")
    assert actual.read_bytes() == b"first"
    assert actual.name == "p.npy"
    assert remote.fetch(pathlib.Path(f"{url}/p.npy")) == actual
    assert len(entries(cache)) == 1
    (folder / "p.npy").write_bytes(b"second!")
    assert remote.fetch(f"{url}/p.npy").read_bytes() == b"second!"


def test_a_web_folder_is_what_its_pages_list(site):
    folder, url = site
    (folder / "run" / "numpy_checkpoints" / "checkpoint_5").mkdir(parents=True)
    (folder / "run" / "run.json").write_text("{}")
    (folder / "run" / "big.bin").write_text("not wanted")
    (folder / "run" / "numpy_checkpoints" / "checkpoint_5" / "prompt").write_text("values")
    actual = remote.fetch(f"{url}/run", patterns=["run.json", "numpy_checkpoints/*"])
    assert actual.name == "run"
    assert files_below(actual) == ["numpy_checkpoints/checkpoint_5/prompt", "run.json"]
    assert files_below(remote.fetch(f"{url}/run/")) == [
        "big.bin",
        "numpy_checkpoints/checkpoint_5/prompt",
        "run.json",
    ]


def test_a_store_is_written_and_read(memory, tmp_path):
    (tmp_path / "out" / "sub").mkdir(parents=True)
    (tmp_path / "out" / "a.txt").write_text("a")
    (tmp_path / "out" / "sub" / "b.txt").write_text("b")
    remote.put(tmp_path / "out", "memory://bucket/run")
    remote.put(tmp_path / "out" / "a.txt", "memory://bucket/one/c.txt")
    assert files_below(remote.fetch("memory://bucket/run")) == ["a.txt", "sub/b.txt"]
    assert remote.fetch("memory://bucket/one/c.txt").read_text() == "a"
    assert [p.name for p in remote.fetch("memory://bucket/run/sub").iterdir()] == ["b.txt"]


def test_writing_goes_where_the_path_says(memory, tmp_path):
    with remote.writing(tmp_path / "a", TEXT) as local:
        assert local == tmp_path / "a"
    with remote.writing(pathlib.Path("memory://bucket/a.txt"), TEXT) as local:
        local.write_text("a")
    assert memory.cat("/bucket/a.txt") == b"a"
    with pytest.raises(ZeroDivisionError), remote.writing("memory://bucket/b.txt", TEXT) as local:
        local.write_text(str(1 / 0))
    assert memory.ls("/bucket", detail=False) == ["/bucket/a.txt"]


def write_folder(url, *names, **options):
    with remote.writing(url, FOLDER, **options) as local, atomic_folder(local, FOLDER) as folder:
        for name in names:
            (folder / name).write_text(name)


def test_a_file_of_another_in_a_store_stays(memory):
    url = "memory://bucket/a.txt"
    memory.pipe("/bucket/a.txt", b"thesis")
    for strict in (False, True):
        with pytest.raises(ValueError) as error:
            remote.may_write(url, TEXT, strict=strict)
        assert str(error.value) == (
            "`path` must be new, or `overwrite` be set to replace what is there. Received: "
            f"{url} (6 bytes, not recognised as text of keras_spot)"
        )
    with pytest.raises(ValueError), remote.writing(url, TEXT) as local:
        local.write_text("ours")
    assert memory.cat("/bucket/a.txt") == b"thesis"
    for text in ("ours", "ours again"):
        with remote.writing(url, TEXT, overwrite=text == "ours") as local:
            local.write_text(text)
        assert memory.cat("/bucket/a.txt") == text.encode()
        assert remote.may_write(url, TEXT)
    with pytest.raises(ValueError), remote.writing(url, TEXT) as local:
        memory.pipe("/bucket/a.txt", b"thesis")  # somebody else's, meanwhile
        local.write_text("ours")
    assert memory.cat("/bucket/a.txt") == b"thesis"


def test_a_folder_of_another_in_a_store_stays(memory):
    url = "memory://bucket/out"
    assert remote.may_write(url, FOLDER) is False
    write_folder(url, "a", "b")
    assert remote.may_write(url, FOLDER) is True
    write_folder(url, "b", "c")  # the older `a` goes
    assert files_below(remote.fetch(url)) == ["b", "c", "keras_spot.json"]
    memory.pipe("/bucket/out/sub/thesis.txt", b"years of work")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=r"memory://bucket/out \(holds sub/thesis\.txt\)"):
            write_folder(url, "d", overwrite=overwrite)
    assert memory.cat("/bucket/out/b") == b"b"
    memory.rm_file("/bucket/out/sub/thesis.txt")
    memory.pipe("/bucket/out/b", b"my change")
    with pytest.raises(ValueError, match=r"\(changed: b\)"):
        write_folder(url, "d")
    write_folder(url, "d", overwrite=True)
    assert files_below(remote.fetch(url)) == ["d", "keras_spot.json"]
    with pytest.raises(NotADirectoryError):
        write_folder(f"{url}/d", "a")


def test_the_last_names_of_an_address_are_kept(memory):
    memory.pipe("/b/run/numpy_checkpoints/checkpoint_5/encoder.prompt.prompt.prompt", b"x")
    actual = remote.fetch(
        "memory://b/run/numpy_checkpoints/checkpoint_5/encoder.prompt.prompt.prompt"
    )
    assert actual.parts[-3:-1] == ("numpy_checkpoints", "checkpoint_5")


def test_an_interrupted_upload_leaves_what_was_there(memory, tmp_path, monkeypatch):
    memory.pipe("/bucket/a.txt", b"old")
    for name in ("a.txt", "b.txt"):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_text("new")
    whole = remote.shutil.copyfileobj

    def broken(source, sink):
        if source.name.endswith("b.txt"):
            raise OSError("connection reset")
        whole(source, sink)

    monkeypatch.setattr(remote.shutil, "copyfileobj", broken)
    with pytest.raises(ConnectionError) as error:
        remote.put(tmp_path / "out", "memory://bucket")
    assert str(error.value) == (
        "`path` must be on a host that answers. Received: memory://bucket (connection reset)"
    )
    assert memory.cat("/bucket/a.txt") == b"old"
    assert not memory.exists("/bucket/b.txt")


def test_an_interrupted_download_leaves_no_part_in_the_cache(site, cache, monkeypatch):
    folder, url = site
    (folder / "p.npy").write_bytes(b"x" * 1000)
    monkeypatch.setattr(Quiet, "cut", True)
    with pytest.raises(ConnectionError, match=r"^`path` must be on a host that answers\. Received"):
        remote.fetch(f"{url}/p.npy")
    assert entries(cache) == []


def test_nothing_there(site, memory, cache):
    for url in (f"{site[1]}/none.npy", "memory://none/p.npy"):
        with pytest.raises(FileNotFoundError) as error:
            remote.fetch(url)
        assert str(error.value) == f"`path` must exist and be readable to you. Received: {url}"
    memory.pipe("/b/other.txt", b"")
    with pytest.raises(FileNotFoundError, match="must exist and be readable"):
        remote.fetch("memory://b", patterns=["*.npz"])
    assert entries(cache) == []


def test_a_name_cannot_lead_out_of_the_cache(memory, cache):
    memory.store["/b/run/../../escaped"] = memory.open("/x", "wb")
    with pytest.raises(ConnectionError) as error:
        remote.fetch("memory://b/run")
    assert "(a file called ../../escaped)" in str(error.value)
    assert entries(cache) == []


def test_an_unwritable_cache_is_not_the_hosts_fault(memory, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERAS_SPOT_CACHE", str(tmp_path / "file"))
    memory.pipe("/b/p.npy", b"x")
    with pytest.raises((NotADirectoryError, FileExistsError), match="file"):
        remote.fetch("memory://b/p.npy")


def test_a_local_address(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    remote.put(tmp_path / "a.txt", f"file://{tmp_path}/new/b.txt")
    assert (tmp_path / "new" / "b.txt").read_text() == "a"
    assert remote.fetch(f"file://{tmp_path}/new").joinpath("b.txt").read_text() == "a"


def test_a_silent_host_is_one_error_within_seconds(cache, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("Name or service not known")

    pytest.importorskip("gcsfs", reason="needs the extra [gcs]")
    monkeypatch.setattr(remote.socket, "create_connection", refuse)
    monkeypatch.setattr(remote.urllib.request, "getproxies", dict)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    before = time.monotonic()
    for url in ("http://127.0.0.1:9/p.npy", "gs://bucket/p.npy"):
        with pytest.raises(ConnectionError) as error:
            remote.fetch(url)
        rule = f"`path` must be on a host that answers. Received: {url} ("
        assert str(error.value).startswith(rule)
        assert "\n" not in str(error.value)
    assert time.monotonic() - before < 5
    assert entries(cache) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nosuch://a/b", "`path` must be local, hf://, gs:// or https://. Received: nosuch://a/b"),
        ("hf://owner", "`path` must be hf://owner/name[@revision][/path]. Received: hf://owner"),
    ],
)
def test_addresses_of_no_kind(url, message):
    with pytest.raises(ValueError) as error:
        remote.fetch(url)
    assert str(error.value) == message


@pytest.mark.parametrize("url", ["http://a.example/b", "hf://owner/name"])
def test_what_cannot_be_written(tmp_path, url):
    (tmp_path / "f").write_text("")
    with pytest.raises(ValueError) as error:
        remote.put(tmp_path / "f", url)
    assert str(error.value) == f"`path` must be one that can be written to. Received: {url}"


@pytest.mark.parametrize(
    ("url", "module", "needed"),
    [("gs://b/p.npy", "gcsfs", "keras-spot[gcs]"), ("https://a.example/p.npy", "aiohttp", "")],
)
def test_a_missing_package_is_named(monkeypatch, url, module, needed):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError) as error:
        remote.fetch(url)
    assert str(error.value).startswith("`path` must be of a kind whose package is installed (")
    assert needed in str(error.value)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A stand-in for the hub's client: what it was asked for, and its one repository."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    folder = tmp_path / "snapshot"
    (folder / "sub").mkdir(parents=True)
    (folder / "p.npz").write_text("p")
    (folder / "sub" / "q.npz").write_text("q")
    asked = []

    def snapshot_download(repository, *, revision, allow_patterns):
        asked.append((repository, revision, allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return folder, asked


def test_hub_addresses(hub):
    folder, asked = hub
    assert remote.fetch("hf://owner/name") == folder
    assert remote.fetch("hf://owner/name@refs%2Fpr%2F1/p.npz").read_text() == "p"
    assert remote.fetch("hf://owner/name@v1/sub/", patterns=["*.npz"]) == folder / "sub"
    assert asked == [
        ("owner/name", None, ["*"]),
        ("owner/name", "refs/pr/1", ["p.npz", "p.npz/*"]),
        ("owner/name", "v1", ["sub", "sub/*.npz"]),
    ]
    with pytest.raises(FileNotFoundError, match="must exist and be readable to you"):
        remote.fetch("hf://owner/name/none.npz")


def test_an_unreachable_hub(hub, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def refuse(*args, **kwargs):
        raise LocalEntryNotFoundError("Cannot reach it\nand more lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ConnectionError) as error:
        remote.fetch("hf://owner/name")
    assert str(error.value) == (
        "`path` must be on a host that answers. Received: hf://owner/name (Cannot reach it)"
    )
