"""What of docs/ is made from the code: tables of keys, the rooms, and the pages of the API.

    python tools/docs_made.py    writes it all; `tests/test_docs.py` holds that it is up to date

A table stands between `<!-- made: NAME -->` and `<!-- end -->` in a page. The API has a page for
each room, with the public names that are defined in it.
"""

import dataclasses
import inspect
import itertools
import pathlib
import re
import sys
import types

import rooms
from docs_doctests import fenced

import keras_spot
from keras_spot import Recipe, study, tasks, transfer
from keras_spot.study.methods import Method
from keras_spot.transfer.retrieval import STRATEGIES

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"
API = DOCS / "api"
TITLES = {
    "model": "Models",
    "training": "Training and evaluation",
    "data": "Data",
    "tasks": "Tasks and metrics",
    "prompts": "Prompts",
    "transfer": "Transfer",
    "serving": "Serving",
    "study": "Studies and pictures",
    "backbones": "Backbones",
    "base": "Recipe, devices and errors",
}
"""Room to the title of its page; a room without public names has none."""

_PLACE = re.compile(r"(<!-- made: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


# === Tables ===


def attributes(record: type) -> dict[str, str]:
    """Return what the docstring of a record says of each field, in its order.

    >>> list(attributes(Recipe))[:2]
    ['prompt_length', 'batch_size']
    """
    text = inspect.getdoc(record) or ""
    section = text.split("Attributes:\n")[1].split("\n\n")[0]
    meanings: dict[str, str] = {}
    for line in section.splitlines():
        if start := re.match(r" {4}(\w+): (.*)", line):
            name = start[1]
            meanings[name] = start[2]
        else:
            meanings[name] += " " + line.strip()
    return meanings


def keys(record: type) -> str:
    """Return a table of a record's keys with default and meaning; every field must have one."""
    meanings = attributes(record)
    names = [field.name for field in dataclasses.fields(record)]
    if set(meanings) != set(names):
        difference = sorted(set(meanings) ^ set(names))
        raise ValueError(f"docstring and fields of {record.__name__} differ: {difference}")
    ordered = [
        field for name in meanings for field in dataclasses.fields(record) if field.name == name
    ]
    rows = [(f"`{f.name}`", _default(f), _sentence(meanings[f.name])) for f in ordered]
    return _table(("key", "default", "what"), rows)


def _default(field: dataclasses.Field) -> str:
    value = field.default
    if value is dataclasses.MISSING:
        value = None if field.default_factory is dataclasses.MISSING else field.default_factory()
        if field.default_factory is dataclasses.MISSING:
            return "required"
    if value is None or value == "" or value == {} or value == ():
        return "none"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{list(value) if isinstance(value, tuple) else value!r}`"


def _sentence(text: str) -> str:
    text = text[0].upper() + text[1:]
    return text.replace("|", "\\|")


def _metrics() -> str:
    module = keras_spot.metrics
    rows = []
    for name in tasks.METRICS:
        function = getattr(module, name, None)
        rows.append((f"`{name}`", _first_line(function) if function else _OTHER_METRICS[name]))
    return _table(("metric", "what"), rows)


_OTHER_METRICS = {
    "referent_accuracy": "WSC: whether the predicted referent is the true one, against the label.",
    "exact_match": "Return 1.0 where the prediction is the target, white space aside.",
    "rouge1": "ROUGE-1, the F-measure over words, without stemming.",
    "rouge2": "ROUGE-2, the F-measure over pairs of words.",
    "rougeLsum": "ROUGE-L over the sentences of a summary.",
}


def _first_line(value: object) -> str:
    return (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ")


def _strategies() -> str:
    rows = [(f"`{name}`", _first_line(strategy)) for name, strategy in STRATEGIES.items()]
    return _table(("`--transfer`", "what it does with the k most similar sources"), rows)


def _reparameterizations() -> str:
    return _table_of(keras_spot.reparameterizations)


def _signatures() -> str:
    from keras_spot.model.export import signatures

    return _table_of(signatures)


def _plans() -> str:
    sys.path.insert(0, str(DOCS.parent))
    from benchmarks import plans

    return plans.table(list(plans.read().values()))


def _table_of(module: types.ModuleType) -> str:
    """Return the table in a module's docstring."""
    lines = (module.__doc__ or "").splitlines()
    return "".join(f"{line}\n" for line in lines if line.startswith("|"))


def _similarities() -> str:
    rows = [(f"`{name}`", _first_line(f)) for name, f in transfer.SIMILARITIES.items()]
    return _table(("similarity", "what"), rows)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


TABLES = {
    "metrics": _metrics,
    "plans": _plans,
    "recipe": lambda: keys(Recipe),
    "reparameterizations": _reparameterizations,
    "rooms": lambda: rooms.table() + "\n",
    "signatures": _signatures,
    "similarities": _similarities,
    "strategies": _strategies,
    "study": lambda: keys(study.Study),
    "study-method": lambda: keys(Method),
    "study-task": lambda: keys(study.StudyTask),
    "task": lambda: keys(tasks.Task),
}


def with_tables(text: str) -> str:
    """Return a page with its tables as they must be."""
    return _PLACE.sub(lambda m: f"{m[1]}\n{TABLES[m[2]]()}\n{m[3]}", text)


# === API ===


def public() -> dict[str, list[str]]:
    """Return room -> the public names that are modules of it or defined in it."""
    rooms_of: dict[str, list[str]] = {room: [] for room in TITLES}
    for name in keras_spot.__all__:
        value = getattr(keras_spot, name)
        if name != "__version__":
            module = value.__name__ if inspect.ismodule(value) else value.__module__
            rooms_of[module.split(".")[1]].append(name)
    return {room: names for room, names in rooms_of.items() if names}


def anchors() -> list[str]:
    """Return every public name, the members of public modules, too; each has a place in the API."""
    names = []
    for name in itertools.chain(*public().values()):
        value = getattr(keras_spot, name)
        names.append(f"keras_spot.{name}")
        if inspect.ismodule(value):
            names += [f"keras_spot.{name}.{member}" for member in value.__all__]
    return names


def api_pages() -> dict[str, str]:
    """Return the text of every page of the API by its file's name."""
    pages = {"index.md": _index()}
    for room, names in public().items():
        # Functions and classes first, then modules with their members.
        ordered = sorted(names, key=lambda name: inspect.ismodule(getattr(keras_spot, name)))
        pages[f"{room}.md"] = f"# {TITLES[room]}\n\n" + "\n".join(map(_entry, ordered))
    return pages


def _index() -> str:
    text = "# API\n\nEvery public name of `keras_spot`. A module loads when it is first used.\n"
    for room, names in public().items():
        rows = []
        for name in names:
            value = getattr(keras_spot, name)
            first = re.split(r"\.(?: (?=[A-Z`])|$)", _first_line(value))[0]  # "et al. 2021" goes on
            rows.append((f"[`{name}`]({room}.md#keras_spot.{name})", _sentence(first)))
        text += f"\n## {TITLES[room]}\n\n{_table(('name', 'what'), rows)}"
    return text


def _entry(name: str) -> str:
    value = getattr(keras_spot, name)
    if not inspect.ismodule(value):
        return f"::: keras_spot.{name}\n    options:\n      heading_level: 2\n"
    head = (
        f"## keras_spot.{name} {{ #keras_spot.{name} }}\n\n{fenced(inspect.getdoc(value) or '')}\n"
    )
    return head + "".join(f"\n::: keras_spot.{name}.{member}\n" for member in value.__all__)


def main() -> None:
    """Write tables and pages, and remove pages of rooms that have gone."""
    for page in DOCS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        page.write_text(with_tables(text), encoding="utf-8")
    pages = api_pages()
    for page in API.glob("*.md"):
        if page.name not in pages:
            page.unlink()
    for name, text in pages.items():
        (API / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
