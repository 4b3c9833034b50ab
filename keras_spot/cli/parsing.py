"""How the command line is read: what every command of it has in common."""

import difflib
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import typer
from typer.core import TyperCommand, TyperGroup

from keras_spot.base.errors import invalid

__all__ = [
    "MAY_BE_EMPTY",
    "SYNONYMS",
    "App",
    "Command",
    "Group",
    "ParserError",
    "Stopped",
    "UnknownOption",
    "closest_option",
    "parser_message",
]

# What other tools call an option of ours.
SYNONYMS = {
    "--model": "--backbone",
    "--dataset": "--task",
    "--epochs": "--steps",
    "--output-dir": "--run-dir",
    "--device": "--devices",
    "--strategy": "--devices",
}
# Parameters of which nothing is something: no validation, an empty text.
MAY_BE_EMPTY = ("validation_split", "prompt_init_text", "texts")


class Stopped(BaseException):
    """A signal that ends a command, which clears away on its way out what it has half written."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


class Command(TyperCommand):
    """A command whose help names no type for a flag, and whose values are never empty."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for name in _without_value(self.get_params(ctx), args):
            if name not in MAY_BE_EMPTY:
                raise invalid(name, "must not be empty", f"{name}=''")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:  # with which Typer would end without a word
            raise Stopped(signal.SIGINT) from stop

    def get_params(self, ctx: Any) -> list[Any]:
        return _flags_without_type(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands that shows its help where none is named."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _flags_without_type(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or ["--help"])


class App(typer.Typer):
    """An application, or a group of its commands."""

    def __init__(self, help: str, **options: Any) -> None:
        settings = {"help_option_names": ["-h", "--help"]}
        super().__init__(help=help, cls=Group, context_settings=settings, **options)

    def command(self, name: str | None = None, **options: Any) -> Callable[..., Any]:
        return super().command(name, cls=Command, **options)


@runtime_checkable
class ParserError(Protocol):
    """A mistake on the command line: click's, which some versions of Typer carry inside."""

    ctx: Any

    def format_message(self) -> str: ...


@runtime_checkable
class UnknownOption(ParserError, Protocol):
    """An option that the command does not have."""

    option_name: str
    possibilities: Any


def parser_message(error: ParserError) -> str:
    """Return the one line of a mistake on the command line."""
    if isinstance(error, UnknownOption) and error.ctx is not None:
        params = error.ctx.command.get_params(error.ctx)
        closest = closest_option(error.option_name, [name for one in params for name in one.opts])
        hint = f" (did you mean {closest}?)" if closest else ""
        arguments = [one.name for one in params if one.param_type_name == "argument"]
        name = error.option_name.removeprefix("--").replace("-", "_")
        if name in arguments or (arguments and not closest):
            name = name if name in arguments else arguments[0]
            hint = f" ({name.upper()} is given without one)"
        return f"No such option: {error.option_name}{hint}"
    return " ".join(error.format_message().split())


def closest_option(option: str, known: Iterable[str]) -> str | None:
    """Return the option that was probably meant, None without a likely one.

    Initials and whole words count before the letters.

    >>> closest_option("--lr", ["--library", "--learning-rate"])
    '--learning-rate'
    >>> closest_option("--model", ["--backbone", "--method"])
    '--backbone'
    """
    known = [name for name in known if name.startswith("--") and name != "--help"]
    words = {name: name.removeprefix("--").split("-") for name in known}
    given = option.removeprefix("--").replace("_", "-")
    if SYNONYMS.get(option) in known:
        return SYNONYMS[option]
    for name in known:
        if "".join(word[0] for word in words[name]) == given:
            return name
    close = difflib.get_close_matches(option, known, n=1, cutoff=0.75)
    for name in known:
        if not close and set(given.split("-")) & set(words[name]):
            close = [name]
    close = close or difflib.get_close_matches(option, known, n=1)
    return close[0] if close else None


def _without_value(params: list[Any], args: list[str]) -> Iterator[str]:
    """Yield the names of the parameters that are given nothing, which a parsed path hides."""
    options = {name: param for param in params for name in param.opts}
    arguments = [param.name for param in params if param.param_type_name == "argument"]
    waiting, place = None, 0
    for word in args:
        name, equals, value = word.partition("=")
        if waiting is not None:
            if not word:
                yield waiting
            waiting = None
        elif name in options:
            if equals and not value:
                yield options[name].name
            if not equals and not options[name].is_flag:
                waiting = options[name].name
        else:
            if not word and arguments:
                yield arguments[min(place, len(arguments) - 1)]
            place += 1


def _flags_without_type(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    return params
