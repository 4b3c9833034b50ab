"""JSON, JSON lines and YAML: plain values of bounded depth and size, every key once."""

import json
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from keras_spot.base.errors import damaged
from keras_spot.base.reading.files import DEPTH, MIB, open_file, parsing, read_text, reason

__all__ = [
    "EXPANDED",
    "JSON_LIMIT",
    "LINE_LIMIT",
    "YAML_LIMIT",
    "parse_json",
    "read_json",
    "read_json_lines",
    "read_record",
    "read_yaml",
    "read_yaml_or_json",
]

JSON_LIMIT = 64 * MIB
YAML_LIMIT = MIB
LINE_LIMIT = 16 * MIB
EXPANDED = 100_000  # nodes of a YAML file with its aliases written out
_LARGEST = 1 << 63
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(
    file: str | os.PathLike,
    *,
    argument: str = "path",
    rule: str = "must be a JSON file",
    finite: bool = True,
    limit: int = JSON_LIMIT,
) -> Any:
    """Return the value of a JSON file.

    Args:
        file: its path.
        argument, rule: for the error.
        finite: whether NaN and infinity, which JSON does not know, are refused. Default yes.
        limit: most bytes.

    Raises:
        OSError: no such file, or it cannot be read.
        DamagedFile: no JSON, a key twice, a number beyond 64 bits, half a character, lists and
            mappings nested deeper than 64, more than `limit` bytes.
    """
    text = read_text(file, limit, argument, rule)
    return parse_json(text, file, argument=argument, rule=rule, finite=finite)


def read_record(
    file: str | os.PathLike,
    *,
    argument: str = "path",
    rule: str = "must be a JSON file with one record",
    finite: bool = True,
    limit: int = JSON_LIMIT,
) -> dict[str, Any]:
    """Return the object of a JSON file; takes and raises what `read_json` does."""
    value = read_json(file, argument=argument, rule=rule, finite=finite, limit=limit)
    if not isinstance(value, dict):
        raise damaged(file, rule, f"a {type(value).__name__}", argument=argument)
    return value


def parse_json(
    text: str,
    file: str | os.PathLike,
    *,
    place: str = "",
    argument: str = "path",
    rule: str = "must be a JSON file",
    finite: bool = True,
) -> Any:
    """Return the value of a JSON text that stands in a file; see `read_json`.

    Args:
        text: the text.
        file: where it comes from, for the error.
        place: where in the file, for the error: a line, a member.
    """
    try:
        with parsing(file, rule, argument):
            value = json.loads(text, object_pairs_hook=_once)
            _check(value, finite, bool(_SURROGATE.search(text)))
    except ValueError as error:
        if not place:
            raise
        cause = reason(error.__cause__ or error)
        raise damaged(file, rule, f"{place}: {cause}", argument=argument) from error
    return value


def read_json_lines(
    file: str | os.PathLike,
    *,
    argument: str = "path",
    rule: str = "must hold a JSON value in every line",
    finite: bool = True,
    on_damage: Callable[[int, ValueError], None] | None = None,
) -> Iterator[Any]:
    """Yield the value of every line of a file; lines of spaces alone count for nothing.

    Args:
        file: its path.
        argument, rule, finite: as in `read_json`.
        on_damage: called with the number of a damaged line, from 1, and its error; then the next
            line follows. Default: the error is raised.

    Raises:
        OSError: no such file, or it cannot be read.
        DamagedFile: a damaged line, by its number.
    """
    with open_file(file) as stream:
        for number, line in enumerate(iter(lambda: stream.readline(LINE_LIMIT + 1), b""), 1):
            place = f"line {number}"
            try:
                if len(line) > LINE_LIMIT:
                    raise damaged(file, rule, f"{place}: too long", argument=argument)
                with parsing(file, f"{rule} (not so {place})", argument):
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if not text.strip():
                    continue
                value = parse_json(
                    text, file, place=place, argument=argument, rule=rule, finite=finite
                )
            except ValueError as error:
                if on_damage is None:
                    raise
                on_damage(number, error)
                while len(line) > LINE_LIMIT:  # the rest of a line that was cut
                    line = stream.readline(LINE_LIMIT + 1)
                continue
            yield value


def read_yaml(
    file: str | os.PathLike,
    *,
    argument: str = "path",
    rule: str = "must be a YAML file",
    limit: int = YAML_LIMIT,
    expanded: int = EXPANDED,
) -> Any:
    """Return the plain value of a YAML file: mappings, lists, texts, numbers, true, false, null.

    Args:
        file: its path.
        argument, rule: for the error.
        limit: most bytes.
        expanded: most values, those that aliases stand for counted each time.

    Raises:
        OSError: no such file, or it cannot be read.
        DamagedFile: no YAML, what `read_json` refuses, a date or another kind of value, more than
            `limit` bytes or `expanded` values, aliases that hold themselves.
    """
    import yaml

    text = read_text(file, limit, argument, rule)
    with parsing(file, rule, argument):
        _check_growth(yaml, text, expanded)
        value = yaml.load(text, Loader=_loader(yaml))
        _check(value, finite=True, surrogates=True)
    return value


def read_yaml_or_json(
    file: str | os.PathLike, *, argument: str = "path", limit: int = YAML_LIMIT
) -> Any:
    """Return the value of a `.yaml`, `.yml` or `.json` file of at most `limit` bytes.

    Raises:
        OSError, DamagedFile: see `read_yaml` and `read_json`.
    """
    if Path(file).suffix == ".json":
        return read_json(file, argument=argument, limit=limit)
    return read_yaml(file, argument=argument, limit=limit)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} twice")
    return made


def _check(value: Any, finite: bool, surrogates: bool) -> None:
    """Raise InvalidArgument for what is nested too deeply, too large a number or no plain value."""
    waiting = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if depth > DEPTH:
            raise ValueError(f"nested deeper than {DEPTH}")
        kind = type(item)
        if kind is dict:
            waiting += [(inner, depth + 1) for inner in item.values()]
            if surrogates:
                waiting += [(key, depth) for key in item]
        elif kind is list:
            waiting += [(inner, depth + 1) for inner in item]
        elif kind is str:
            if surrogates:
                item.encode("utf-8")
        elif kind is float:
            if finite and not math.isfinite(item):
                raise ValueError(f"the number {item}")
        elif kind is int:
            if not -_LARGEST <= item < _LARGEST:
                raise ValueError("a whole number beyond 64 bits")
        elif kind is not bool and item is not None:
            raise ValueError(f"a value of the kind {kind.__name__}; quote it to make it a text")


def _check_growth(yaml: Any, text: str, expanded: int) -> None:
    """Raise InvalidArgument for aliases that grow too large or hold themselves, and for deep nests.

    Looks at the events alone, so that nothing grows yet.
    """
    sizes: dict[str, int] = {}
    nodes = [0]  # of the collections that are open, and of the whole
    anchors: list[str | None] = []
    for event in yaml.parse(text, Loader=_base(yaml)):
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            nodes.append(1)
            anchors.append(event.anchor)
            if len(anchors) > DEPTH:
                raise ValueError(f"nested deeper than {DEPTH}")
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            size, anchor = nodes.pop(), anchors.pop()
            if anchor is not None:
                sizes[anchor] = size
            nodes[-1] += size
        elif isinstance(event, yaml.ScalarEvent):
            if event.anchor is not None:
                sizes[event.anchor] = 1
            nodes[-1] += 1
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in anchors:
                raise ValueError(f"the alias {event.anchor} holds itself")
            nodes[-1] += sizes.get(event.anchor, 1)
        if nodes[-1] > expanded:
            raise ValueError(f"more than {expanded} values, aliases written out")


def _base(yaml: Any) -> Any:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _loader(yaml: Any) -> Any:
    """Return a safe loader that takes every key of a mapping once."""

    class Loader(_base(yaml)):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if len(set(keys)) < len(keys):
                twice = next(key for key in keys if keys.count(key) > 1)
                raise ValueError(f"the key {twice!r} twice, line {node.start_mark.line + 1}")
            return super().construct_mapping(node, deep)

    return Loader
