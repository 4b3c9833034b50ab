"""The application, and how its errors end."""

import re
import sys

import typer

app = typer.Typer(
    help="Soft prompt tuning and transfer (SPoT) for a frozen T5.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command; a mistake of the user's is one line on stderr and exit code 2."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
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
    if hasattr(error, "format_message"):  # of the command line's own parser
        return " ".join(error.format_message().split())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}"
    # Ours name an argument first; inside a data pipeline TensorFlow wraps them.
    ours = re.search(r"(?:^|Error: )(`\w+` [^\n]+)", str(error))
    if ours:
        return ours[1]
    return str(error) if isinstance(error, (FileNotFoundError, ModuleNotFoundError)) else None
