"""The errors of this package, and the one shape of their messages: argument, rule, value.

Each is also the built-in error that Python's users expect, so that `except ValueError` works, and
what a caller can put right has a type of its own, so that nobody needs to look into a text.
"""

import contextlib
import difflib
import importlib.util
import os
from collections.abc import Iterable, Iterator

__all__ = [
    "USER_ERRORS",
    "DamagedFile",
    "Deserted",
    "Diverged",
    "InvalidArgument",
    "MissingExtra",
    "MissingFile",
    "Unfinished",
    "Unreachable",
    "UnsuitableDevices",
]


class InvalidArgument(ValueError):
    """A value that breaks a rule, or a name that is not known."""


class DamagedFile(InvalidArgument):
    """A file that is not what its name says, or that claims more than it holds.

    The message names the file, the place in it (line, byte, member, field) and the rule.
    """


class UnsuitableDevices(InvalidArgument):
    """A layout of devices that a backbone's sizes do not suit."""


class MissingFile(FileNotFoundError):
    """A file, a folder or a data set that is not there."""


class MissingExtra(ModuleNotFoundError):
    """An optional package that is not installed; the message has the command for it."""


class Unreachable(ConnectionError):
    """A host that does not answer, or broke off."""


class Deserted(Unreachable):
    """Another process of a training has ended; JAX's own end of this one would wait for it."""


class Diverged(FloatingPointError):
    """Training whose numbers are no longer finite."""


class Unfinished(RuntimeError):
    """Work of which a part went wrong; the same call tries that part again."""


_SHOWN = 800  # letters of a value in a message
USER_ERRORS = (InvalidArgument, MissingFile, MissingExtra, Unreachable, Diverged, Unfinished)
"""What a user can put right; anything else is a fault of the program."""


def complaint(argument: str, rule: str, received: object) -> str:
    """Return the text of an error.

    >>> complaint("length", "must be a positive integer", "length=0")
    '`length` must be a positive integer. Received: length=0'
    """
    text = printable(received)
    if len(text) > _SHOWN:  # what is cut is the middle: a file's name stands at the end
        text = f"{text[: _SHOWN // 2]} … {text[-_SHOWN // 2 :]}"
    return f"`{argument}` {rule}. Received: {text}"


def invalid(argument: str, rule: str, received: object) -> InvalidArgument:
    """Return the error for a value that breaks a rule.

    >>> raise invalid("length", "must be a positive integer", "length=0")
    Traceback (most recent call last):
    keras_spot.base.errors.InvalidArgument: `length` must be a positive integer. Received: length=0
    """
    return InvalidArgument(complaint(argument, rule, received))


def unsuitable(rule: str, received: object) -> UnsuitableDevices:
    """Return the error for a layout of devices that a backbone's sizes do not suit."""
    return UnsuitableDevices(complaint("devices", rule, received))


def unknown(argument: str, value: object, known: Iterable[str]) -> InvalidArgument:
    """Return the error for a name that is not among `known`, with the closest ones.

    >>> raise unknown("task", "mprc", ["mrpc", "rte"])
    Traceback (most recent call last):
    keras_spot.base.errors.InvalidArgument: `task` must be a known name. Received: task='mprc' (did
    you mean 'mrpc'?)
    """
    known = list(known)
    close = difflib.get_close_matches(str(value)[:100], known, n=2)
    if close:
        hint = "did you mean " + " or ".join(repr(name) for name in close) + "?"
    else:
        hint = "known: " + ", ".join(sorted(known)[:20]) + (", …" if len(known) > 20 else "")
    return invalid(
        argument, "must be a known name", f"{argument}={shortened(repr(value))} ({hint})"
    )


def diverged(argument: str, rule: str, received: object) -> Diverged:
    """Return the error for training whose numbers are no longer finite."""
    return Diverged(complaint(argument, rule, received))


def missing_file(argument: str, rule: str, received: object) -> MissingFile:
    """Return the error for a file or folder that is not there."""
    return MissingFile(complaint(argument, rule, received))


def missing_extra(package: str, extra: str) -> MissingExtra:
    """Return the error for an optional package that is not installed.

    >>> raise missing_extra("ray", "ray")
    Traceback (most recent call last):
    keras_spot.base.errors.MissingExtra: ray is not installed: pip install 'keras-spot[ray]'
    """
    return MissingExtra(f"{package} is not installed: pip install 'keras-spot[{extra}]'")


def check_installed(extra: str, *packages: str) -> None:
    """Raise MissingExtra for the first of some packages that is not installed, imported or not."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise missing_extra(package, extra)


def is_memory_full(error: BaseException) -> bool:
    """Return whether a device had no memory left, which TensorFlow and JAX each say their way.

    >>> is_memory_full(MemoryError())  # the host's
    False
    """
    name = type(error).__name__
    of_jax = name in ("JaxRuntimeError", "XlaRuntimeError") and "RESOURCE_EXHAUSTED" in str(error)
    return of_jax or name == "ResourceExhaustedError"


def unreachable(argument: str, address: str, reason: BaseException | str) -> Unreachable:
    """Return the error for an address whose host does not answer."""
    text = str(reason) or type(reason).__name__
    rule = "must be on a host that answers"
    return Unreachable(complaint(argument, rule, f"{address} ({text.splitlines()[0]})"))


def damaged(
    file: object, rule: str, received: object = "", *, argument: str = "path"
) -> DamagedFile:
    """Return the error of a file whose content breaks a rule.

    Args:
        file: its path.
        rule: what its content must be.
        received: what is there instead, and where; only the beginning of a long text is shown.
        argument: what the file was given as.

    >>> raise damaged("run.json", "must be a JSON file", "line 3")
    Traceback (most recent call last):
    keras_spot.base.errors.DamagedFile: `path` must be a JSON file. Received: run.json (line 3)
    """
    text = shortened(received)
    shown = f"{printable(file)} ({text})" if text else printable(file)
    return DamagedFile(f"`{argument}` {rule}. Received: {shown}")


def shortened(value: object, length: int = 200) -> str:
    """Return a value's text in one line that can be printed, cut to so many characters.

    >>> shortened("a long text", 6)
    'a lon…'
    """
    text = value if isinstance(value, str) else str(value)
    line = " ".join(printable(text[: 4 * length]).split())
    return line if len(line) <= length else line[: length - 1] + "…"


def printable(value: object) -> str:
    r"""Return a text without lone surrogates, as names of files and damaged texts have them.

    >>> printable("run\udcff")
    'run\\udcff'
    """
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


@contextlib.contextmanager
def naming_file(path: str | os.PathLike[str]) -> Iterator[None]:
    """Give an error of the system in the block the file's name if it has none, as a full disk's.

    >>> with naming_file("run.json"):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    OSError: [Errno 28] No space left on device: 'run.json'
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise type(error)(error.errno, os.strerror(error.errno), os.fspath(path)) from error


_raised_in_pipelines: list[list[Exception]] = []


@contextlib.contextmanager
def in_pipeline() -> Iterator[None]:
    """Keep an error of the block for `unwrapped`: the block is a step of a data pipeline.

    TensorFlow runs a pipeline's Python in threads of its own and passes only the text of an error
    on, inside an error of TensorFlow's.
    """
    try:
        yield
    except USER_ERRORS as error:
        for raised in _raised_in_pipelines:
            raised.append(error)
        raise


@contextlib.contextmanager
def unwrapped() -> Iterator[None]:
    """Raise the error of a data pipeline itself where TensorFlow raises its own around it."""
    raised: list[Exception] = []
    _raised_in_pipelines.append(raised)
    try:
        yield
    except Exception as error:
        if raised and type(error).__module__.startswith("tensorflow."):
            raise raised[0] from error
        raise
    finally:
        _raised_in_pipelines[:] = [other for other in _raised_in_pipelines if other is not raised]
