"""Files on other machines: a local copy to read, and whole files written back.

| address | through | kept in |
|---|---|---|
| `hf://owner/name[@revision][/path]` | huggingface_hub | its own cache |
| `https://`, `http://`, `gs://` (extra `[gcs]`), other kinds of fsspec's | fsspec | `cache_dir()` |

A copy is used again only while size, time and checksum at its source are those it was made
from. It takes its place in the cache when it is complete, so the cache never holds part of one.
"""

import contextlib
import errno
import fnmatch
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_spot.base import leftovers, ownership
from keras_spot.base.errors import (
    MissingExtra,
    MissingFile,
    complaint,
    invalid,
    missing_file,
    unreachable,
)
from keras_spot.base.ownership import Kind

__all__ = ["address", "cache_dir", "fetch", "is_remote", "knock", "may_write", "put", "writing"]

# Two letters at least: `C:/` is a drive.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_COLLAPSED = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")
_HUB = re.compile(r"hf://([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.+?))?/?")
_CONNECT, _SILENCE = 10, 60  # seconds to wait for a host, and for its next bytes
_KEPT_NAMES = 4  # of an address's last names, in the cache: run/numpy_checkpoints/checkpoint_5/...


def is_remote(path: Any) -> bool:
    """Return whether a path is an address, `scheme://...`.

    `pathlib` makes one slash of two, so a `Path` counts with one.

    >>> is_remote("gs://bucket/prompt.npy"), is_remote(Path("gs://bucket/prompt.npy"))
    (True, True)
    >>> is_remote("runs/mnli"), is_remote("C:/runs/mnli"), is_remote("a text: see http://a.b")
    (False, False, False)
    """
    if isinstance(path, str):
        return _URL.match(path) is not None
    return isinstance(path, os.PathLike) and _COLLAPSED.match(os.fspath(path)) is not None


def address(path: str | os.PathLike) -> str:
    """Return a remote path as text with the two slashes that `pathlib` took away.

    >>> address(Path("gs://bucket/prompt.npy"))
    'gs://bucket/prompt.npy'
    """
    if isinstance(path, str):
        return path
    return _COLLAPSED.sub(r"\1://", os.fspath(path), count=1)


def cache_dir() -> Path:
    """Return the folder of fetched files: `$KERAS_SPOT_CACHE`, else `~/.cache/keras_spot`."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("KERAS_SPOT_CACHE") or Path(home, "keras_spot"))


def fetch(path: str | os.PathLike, *, patterns: Sequence[str] | None = None) -> Path:
    """Return a local path for a file or folder that may be remote.

    Args:
        path: local paths come back as they are.
        patterns: of a remote folder, fetch only the files whose path inside it matches one of
            these (`fnmatch`, where `*` also stands for `/`). Default: every file.

    Raises:
        MissingFile: there is nothing at the address, or nothing that you may read.
        Unreachable: the host does not answer, or broke off.
        MissingExtra: the address needs an extra that is not installed.
        InvalidArgument: an address of an unknown kind.
    """
    if not is_remote(path):
        return Path(path)
    url = address(path)
    if url.startswith("hf://"):
        return _fetch_from_hub(url, patterns or ["*"])
    system, root = _filesystem(url)
    with _answers(url):
        files = _listing(system, root, url, patterns or ["*"])
    return _download(system, files, url)


def put(local: str | os.PathLike, url: str | os.PathLike) -> None:
    """Write a local file, or every file of a local folder, to a remote address.

    The files take their names together, after all bytes have arrived, wherever the store
    can do that; files of other names that lie there stay.

    Raises:
        Unreachable: the host does not answer, or broke off.
        MissingExtra: the address needs an extra that is not installed.
        InvalidArgument: an address that cannot be written to.
    """
    local, url = Path(local), address(url)
    files = sorted(f for f in local.rglob("*") if f.is_file()) if local.is_dir() else [local]
    system, root = _writable(url)
    with _answers(url), system.transaction:
        for file in files:
            target = root if file == local else f"{root}/{file.relative_to(local).as_posix()}"
            with open(file, "rb") as source, system.open(target, "wb") as sink:
                shutil.copyfileobj(source, sink)


def may_write(
    path: str | os.PathLike, kind: Kind, overwrite: bool = False, strict: bool = False
) -> bool:
    """Return whether what is at a path or address may be replaced, False where nothing is.

    Arguments and errors are those of `ownership.check`; of an address also those of `put`.
    """
    if not is_remote(path):
        return ownership.check(path, kind, overwrite, strict)
    url = address(path)
    system, root = _writable(url)
    if kind.is_folder:
        return bool(_check_folder(system, root, url, kind, overwrite))
    with _answers(url):
        system.invalidate_cache()
        if not system.isfile(root):
            return False
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch, Path(path).name)
            system.get_file(root, str(copy))
            try:
                ownership.check_file(copy, kind, overwrite, url, strict)
                return True
            except ValueError as error:
                refusal = error
    raise refusal


@contextlib.contextmanager
def writing(path: str | os.PathLike, kind: Kind, overwrite: bool = False) -> Iterator[Path]:
    """Yield a local path to write a file or folder to; a remote one gets it if the block ends well.

    A local path is as it was given, for `atomic_write` or `atomic_folder` to guard. What is at an
    address is replaced under the same rules, see `ownership.check`.

    Raises:
        Unreachable, MissingExtra: see `put`.
        InvalidArgument: another's work is there, or an address that cannot be written to.
    """
    if not is_remote(path):
        ownership.check_name(path)
        yield Path(path)
        return
    url = address(path)
    may_write(url, kind, overwrite)
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch, Path(path).name)
        yield local
        system, root = _writable(url)
        older: dict[str, str] = {}
        if kind.is_folder:
            older = _check_folder(system, root, url, kind, overwrite)
        else:
            may_write(url, kind, overwrite)
        put(local, url)
        with _answers(url):
            for name in older.keys() - set(ownership.listing(local) if older else []):
                system.rm_file(older[name])


def _check_folder(system: Any, root: str, url: str, kind: Kind, overwrite: bool) -> dict[str, str]:
    """Return `{path inside: path}` of the files of a folder that may be replaced."""
    with _answers(url):
        system.invalidate_cache()
        is_file = system.isfile(root)
    if is_file:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), url)
    own, digests = {}, {}
    with _answers(url):
        marker = f"{root}/{ownership.MARKER}"
        if system.isfile(marker):
            own = ownership.marked_files(system.cat_file(marker), kind)
        listing: dict[str, Any] = {}
        if own:
            listing = system.find(root, detail=True)
        elif system.isdir(root):  # not ours: what lies in it directly will do
            listing = {info["name"]: info for info in system.ls(root, detail=True)}
        files = {name.removeprefix(root).lstrip("/"): info for name, info in listing.items()}
        files.pop("", None)  # what marks the folder itself in some stores
        for name in own.keys() & files.keys():
            with system.open(files[name]["name"], "rb") as stream:
                digests[name] = ownership.digest(stream, files[name]["size"])
    ownership.judge(sorted(files), own, digests, kind, overwrite, url)
    return {name: info["name"] for name, info in files.items()}


def _download(system: Any, files: dict[str, Any], url: str) -> Path:
    """Return the place in the cache of `{path inside: what the host says of it}`, filled."""
    state = json.dumps([url, files], sort_keys=True, default=str)
    place = cache_dir() / hashlib.sha256(state.encode()).hexdigest()[:32]
    names = [name for name in urllib.parse.urlsplit(url).path.split("/") if name not in ("", "..")]
    inside = Path(*names[-_KEPT_NAMES:])
    if place.exists():
        return place / inside
    place.parent.mkdir(parents=True, exist_ok=True)
    for left in leftovers.left_in(place.parent):  # the cache is ours alone
        shutil.rmtree(left, ignore_errors=True)
    prefix = leftovers.prefix(f".{place.name}.")
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=prefix) as scratch:
        folder = Path(scratch, "new")
        with _answers(url):
            for name, info in files.items():
                target = folder / inside / name
                target.parent.mkdir(parents=True, exist_ok=True)
                system.get_file(info["name"], str(target))
                if info.get("size") not in (None, target.stat().st_size):
                    raise EOFError(f"{target.stat().st_size} of {info['size']} bytes came")
        try:
            os.rename(folder, place)
        except OSError:  # another process was quicker
            if not place.is_dir():
                raise
    return place / inside


def _listing(system: Any, root: str, url: str, patterns: Sequence[str]) -> dict[str, Any]:
    """Return `{path inside: what the host says of it}` of the files to fetch."""
    system.invalidate_cache()
    web = url.startswith("http")
    info = system.info(root)
    # A web server has no folders, only pages with links.
    if info["type"] == "file" and not (web and info.get("mimetype") == "text/html"):
        return {"": info}
    root = root.rstrip("/")
    files = {}
    for name, info in system.find(root, detail=True).items():
        inside = name.removeprefix(root).lstrip("/")
        if ".." in inside.split("/"):  # would leave the cache
            raise ValueError(f"a file called {inside}")
        if inside and any(fnmatch.fnmatchcase(inside, pattern) for pattern in patterns):
            files[inside] = system.info(name) if web else info
    if not files:
        raise FileNotFoundError(url)
    return files


def _writable(url: str) -> tuple[Any, str]:
    if url.startswith(("hf://", "http://", "https://")):
        raise invalid("path", "must be one that can be written to", url)
    return _filesystem(url)


def _filesystem(url: str) -> tuple[Any, str]:
    import fsspec

    scheme = url.split("://")[0]
    options: dict[str, Any] = {}
    try:
        if scheme in ("http", "https"):
            import aiohttp

            limits = aiohttp.ClientTimeout(None, sock_connect=_CONNECT, sock_read=_SILENCE)
            options["client_kwargs"] = {"timeout": limits}
            # Compressed on the way, a file would not have the size that was announced.
            options["headers"] = {"Accept-Encoding": "identity"}
        elif scheme in ("gs", "gcs"):
            # Else it asks for a login, in vain and aloud, before it reads a public bucket.
            os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
            import gcsfs  # noqa: F401

            with _answers(url):
                knock("storage.googleapis.com")
        elif scheme == "file":
            options["auto_mkdir"] = True
        return fsspec.core.url_to_fs(url, skip_instance_cache=True, **options)
    except ImportError as error:
        needed = "keras-spot[gcs]" if scheme in ("gs", "gcs") else f"{error}"
        rule = f"must be of a kind whose package is installed ({needed})"
        raise MissingExtra(complaint("path", rule, url)) from None
    except ValueError:
        raise invalid("path", "must be local, hf://, gs:// or https://", url) from None


def knock(host: str) -> None:
    """Raise OSError within seconds if a host cannot be reached, where clients try for minutes.

    Behind a proxy only the client can tell.
    """
    if not (urllib.request.getproxies() or os.environ.get("STORAGE_EMULATOR_HOST")):
        socket.create_connection((host, 443), timeout=_CONNECT).close()


@contextlib.contextmanager
def _answers(url: str) -> Iterator[None]:
    """Turn what the libraries of the stores raise into one error of ours."""
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        # fsspec's web client calls a host that does not answer "not found", too.
        if error.__cause__ is not None and not hasattr(error.__cause__, "status"):
            raise unreachable("path", url, error.__cause__) from error
        raise _missing(url) from None
    except NotImplementedError:
        raise invalid("path", "must be one that can be written to", url) from None
    except Exception as error:
        raise unreachable("path", url, error) from error


def _fetch_from_hub(url: str, patterns: Sequence[str]) -> Path:
    from huggingface_hub import errors, snapshot_download

    match = _HUB.fullmatch(url)
    if match is None:
        raise invalid("path", "must be hf://owner/name[@revision][/path]", url)
    repository, revision, path = match.groups()
    wanted = list(patterns) if path is None else [path, *(f"{path}/{p}" for p in patterns)]
    try:
        folder = snapshot_download(
            repository,
            revision=None if revision is None else urllib.parse.unquote(revision),
            allow_patterns=wanted,
        )
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        raise _missing(url) from None
    except errors.HFValidationError:
        raise invalid("path", "must be hf://owner/name[@revision][/path]", url) from None
    except Exception as error:  # of whatever HTTP library the hub's client stands on
        raise unreachable("path", url, error) from error
    local = Path(folder, path or "")
    if not local.is_file() and not any(local.glob("*")):
        raise _missing(url)
    return local


def _missing(url: str) -> MissingFile:
    return missing_file("path", "must exist and be readable to you", url)
