"""The application, and how its errors end."""

import codecs
import contextlib
import errno
import io
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from typing import Annotated, Any, NoReturn

import typer

from keras_spot.base import errors
from keras_spot.cli.parsing import App, ParserError, Stopped, parser_message

__all__ = ["app", "main", "root", "saved_when_stopped", "user_message"]

app = App("Soft prompt tuning and transfer (SPoT) for a frozen T5.", pretty_exceptions_enable=False)
_PLACES = re.compile(r"\{\{.*?\}\} ?")  # of a graph
_LESS = (
    "a smaller --batch-size, --dtype bfloat16 or, on several devices with JAX, --devices model:N "
    "takes less, and `keras-spot plan` says what fits"
)
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # whichever file it was


def _show_version(asked: bool) -> None:
    if asked:
        from keras_spot.base.versions import versions

        own, *others = (f"{name} {number}" for name, number in versions().items())
        typer.echo(f"{own.replace('keras_spot', 'keras-spot')} ({', '.join(others)})")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show versions and exit."
        ),
    ] = False,
) -> None:
    """Soft prompt tuning and transfer (SPoT) for a frozen T5."""


def main() -> None:
    """Run the command; a mistake of the user's is one line on stderr and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a locale may know less than we print
            ascii_alone = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding="utf-8" if ascii_alone else None, errors="backslashreplace")
    received: list[int] = []
    try:
        with errors.unwrapped(), _warnings_in_one_line(), _stopped_by_signals(received):
            code = app(prog_name="keras-spot", standalone_mode=False)
        if received and code == _interrupted(signal.SIGINT):  # Typer's own end
            raise Stopped(signal.SIGINT)
        sys.exit(code or 0)
    except (KeyboardInterrupt, typer.Abort, Stopped) as stop:  # outside the training of a run
        number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
        print("interrupted", file=sys.stderr)
        _leave(_interrupted(number))
    except BrokenPipeError:  # whoever read the output has seen enough
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        if received:  # TensorFlow makes an error of its own of what ends its callbacks
            print("interrupted", file=sys.stderr)
            _leave(_interrupted(received[0]))
        message = user_message(error)
        if message is None:
            traceback.print_exc()
        else:
            print(f"error: {message}", file=sys.stderr, flush=True)
        _leave(1 if message is None else 2, at_once=isinstance(error, errors.Deserted))


def _leave(code: int, at_once: bool = False) -> NoReturn:
    """End a command that failed.

    Where other processes train with this one JAX would wait for them at its end, for minutes, and
    they for what this one does not do any more.

    Args:
        code: the exit code.
        at_once: one of the others has ended already. Default False.
    """
    hosts = sys.modules.get("keras_spot.base.hosts")
    if hosts is not None and hosts.has_joined():
        if not at_once:
            hosts.part()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
    sys.exit(code)


def _interrupted(number: int) -> int:
    """Return the exit code of a command that a signal ended, as shells have it."""
    return 128 + number


@contextlib.contextmanager
def _stopped_by_signals(received: list[int]) -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does; training saves first, servers answer.

    What has come is noted in `received`.
    """

    def stop(number: int, frame: Any) -> None:
        received.append(number)
        raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)

    before: dict[Any, Any] = {}
    if threading.current_thread() is threading.main_thread():
        names = ("SIGINT", "SIGTERM", "SIGHUP")
        for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
            # Others are of whoever calls, or ignored, as by nohup.
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Write a warning to the user without the line of the program that gave it."""
    with warnings.catch_warnings():
        write = warnings.showwarning

        def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, UserWarning):
                print(f"warning: {message}", file=sys.stderr)
            else:
                write(message, category, *place, **more)

        warnings.showwarning = show
        yield


@contextlib.contextmanager
def saved_when_stopped() -> Iterator[None]:
    """End with one line and the shell's exit code when a signal stops a run."""
    from keras_spot.training.interrupts import Interrupted

    try:
        yield
    except Interrupted as stop:
        typer.echo(str(stop), err=True)
        raise typer.Exit(stop.exit_code) from None


def user_message(error: Exception) -> str | None:
    """Return the one line of an error that the user can mend, None for a fault of ours."""
    if isinstance(error, ParserError):
        return parser_message(error)
    if isinstance(error, errors.USER_ERRORS):
        return " ".join(str(error).splitlines())
    if isinstance(error, MemoryError) or errors.is_memory_full(error):
        reason = _PLACES.sub("", str(error)).partition("\n")[0] or type(error).__name__
        return f"the memory is full ({reason}); {_LESS}"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {errors.printable(error.filename)}"
    if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
        return error.strerror
    return None
