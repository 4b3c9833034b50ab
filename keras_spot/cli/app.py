"""The application, and how its errors end."""

import sys
from typing import Protocol, runtime_checkable

import typer

from keras_spot.base import errors

app = typer.Typer(
    help="Soft prompt tuning and transfer (SPoT) for a frozen T5.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@runtime_checkable
class _ParserError(Protocol):
    """A mistake on the command line: click's, which some versions of Typer carry inside."""

    def format_message(self) -> str: ...


def main() -> None:
    """Run the command; a mistake of the user's is one line on stderr and exit code 2."""
    try:
        with errors.unwrapped():
            code = app(standalone_mode=False)
        sys.exit(code or 0)
    except KeyboardInterrupt:
        print("interrupted; the same command continues a training run", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        message = _user_message(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)


def _user_message(error: Exception) -> str | None:
    """Return the one line of an error that the user can mend, None for a fault of ours."""
    if isinstance(error, _ParserError):
        return " ".join(error.format_message().split())
    if isinstance(error, errors.USER_ERRORS):
        return " ".join(str(error).splitlines())
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {error.filename}"
    return None
