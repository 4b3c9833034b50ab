"""What a study is: sources, targets, seeds and budgets, from Python or from a YAML file."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from keras_spot import backbones, tasks
from keras_spot.base import reading
from keras_spot.base.errors import invalid, missing_file, unknown
from keras_spot.base.recipe import Recipe
from keras_spot.study.cells import Cell

SCORES = ("best", "last")
METHODS = ("rank", "generate", "beam")
KERNELS = ("auto", "plain", "fast")
# What a study may change and still go on in its folder: it adds cells, or says where things are.
_FREE = ("name", "sources", "targets", "seeds", "examples", "data_dir", "kernels")
_MOST_RUNS = 1_000_000
_RECIPE = tuple(field.name for field in dataclasses.fields(Recipe))
_NUMBERS = (
    "source_steps",
    "target_steps",
    "embedding_steps",
    "evaluations",
    "validation_limit",
    "input_length",
)


@dataclasses.dataclass(frozen=True)
class StudyTask:
    """A source or a target.

    Attributes:
        task: a task's name, the path of a `.yaml` or `.json` record, or a `tasks.Task`.
        split: what to train on, a split or TFDS slice. Default `"train"`.
        validation: what to score, a split or slice. Default: the task's validation splits.
        method: how to answer. Default: the study's.
    """

    task: Any
    split: str = "train"
    validation: str | None = None
    method: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.task, (str, os.PathLike)):
            object.__setattr__(self, "task", _find(self.task))
        if self.method is not None and self.method not in METHODS:
            raise unknown("method", self.method, METHODS)

    @property
    def name(self) -> str:
        """The task's name."""
        return str(self.task.name)

    @property
    def scored(self) -> tuple[str, ...]:
        """The splits whose mean score counts."""
        return (self.validation,) if self.validation else tuple(self.task.validation)

    def record(self) -> dict[str, Any]:
        """The entry as plain data; a task that is not of the catalogue is written out."""
        known = self.name in tasks.names() and tasks.get(self.name) == self.task
        if not known and callable(self.task.preprocess):
            rule = "must name its preprocess, as other processes read it from the study's folder"
            raise invalid("task", rule, self.name)
        task = self.name if known else dataclasses.asdict(self.task)
        return {
            "task": task,
            "split": self.split,
            "validation": self.validation,
            "method": self.method,
        }


@dataclasses.dataclass(frozen=True)
class Study:
    """A source x target x seed grid on one frozen backbone.

    Every source prompt is trained once and starts a prompt for every target and seed; beside
    them the same target is trained from the recipe's initial prompt for the same steps on the
    same examples in the same order (Vu et al. 2022, section 3, with an equal-step baseline).

    Attributes:
        sources: source tasks: names, `StudyTask`s, or mappings of the fields of one.
        targets: target tasks, likewise. A task that is source and target is not transferred
            to itself.
        name: what the study is called.
        backbone: see `keras_spot.build`; a name or a folder.
        seeds: one run of every pair each. Default three.
        source_seed: the one seed of all sources. Default 0.
        source_steps: training steps of a source. Default: the recipe's.
        target_steps: training steps on a target, from whichever start. Default: the recipe's.
        embedding_steps: the prompt after these steps is the task's embedding, of sources and of
            the targets' own runs from scratch. Default: 10,000 as in the paper, or the
            shortest run.
        examples: training examples of the targets; `(16, None)` is a grid with 16 and one with
            all. Every seed draws its own. Default: all.
        recipe: fields of `Recipe` that differ from the backbone's own recipe.
        evaluations: evenly spaced checkpoints of a run that are scored, the last step
            included. Default 4.
        score: a run's score and prompt on a target: those of its `"last"` step (default), or of
            the checkpoint with the `"best"` validation score, as in the paper; the same rule
            from scratch and from a source. Sources always keep their best.
        validation_limit: only the first examples of each validation split.
        method: how validation splits are answered: `"rank"` (default), `"generate"`, `"beam"`.
        dtype: dtype policy of the backbone.
        kernels: how the numbers are computed, see `keras_spot.build`. Default `"auto"`.
        input_length: input tokens at most. Default: the tasks' longest.
        data_dir: where prepared TFDS data lie. Default: TFDS' own folder.

    Raises:
        InvalidArgument: a value that breaks its rule, an unknown name (with the closest match), a
            task twice, or no source or target.
        MissingFile: a task record that is not there.
    """

    sources: Sequence[Any]
    targets: Sequence[Any]
    name: str = "study"
    backbone: str = "tiny"
    seeds: Sequence[int] = (0, 1, 2)
    source_seed: int = 0
    source_steps: int | None = None
    target_steps: int | None = None
    embedding_steps: int | None = None
    examples: Sequence[int | None] = (None,)
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    evaluations: int = 4
    score: str = "last"
    validation_limit: int | None = None
    method: str = "rank"
    dtype: str | None = None
    kernels: Literal["auto", "plain", "fast"] = "auto"
    input_length: int | None = None
    data_dir: str | None = None

    def __post_init__(self) -> None:
        for field in ("sources", "targets"):
            object.__setattr__(self, field, _entries(field, getattr(self, field)))
        for field, atom in (("seeds", (int,)), ("examples", (int, type(None)))):
            object.__setattr__(self, field, _distinct(field, getattr(self, field), atom))
        for field in _NUMBERS:
            _positive(field, getattr(self, field))
        for size in self.examples:
            _positive("examples", size)
        for field, known in (("score", SCORES), ("method", METHODS), ("kernels", KERNELS)):
            if getattr(self, field) not in known:
                raise unknown(field, getattr(self, field), known)
        for field in self.recipe:
            if field not in _RECIPE or field == "steps":
                raise unknown("recipe", field, [name for name in _RECIPE if name != "steps"])
        object.__setattr__(self, "backbone", str(self.backbone))
        object.__setattr__(self, "recipe", dict(self.recipe))
        if self.data_dir is not None:
            object.__setattr__(self, "data_dir", str(self.data_dir))
        self._fill_steps()
        grid = len(self.targets) * len(self.seeds) * len(self.examples)
        if len(self.sources) + grid * (1 + len(self.sources)) > _MOST_RUNS:
            rule = f"must have at most {_MOST_RUNS} runs"
            received = f"{len(self.sources)} sources, {grid} runs of a target each"
            raise invalid("study", rule, received)

    def _fill_steps(self) -> None:
        recipe = backbones.recipe_for(self.backbone)
        for field in ("source_steps", "target_steps"):
            if getattr(self, field) is None:
                object.__setattr__(self, field, recipe.steps)
        shortest = min(self.source_steps or 0, self.target_steps or 0)
        if self.embedding_steps is None:
            object.__setattr__(self, "embedding_steps", min(10_000, shortest))
        elif self.embedding_steps > shortest:
            rule = f"must be at most the steps of sources and targets ({shortest})"
            raise invalid("embedding_steps", rule, f"embedding_steps={self.embedding_steps}")
        for field in ("source_steps", "target_steps"):
            if getattr(self, field) < self.evaluations:
                rule = f"must be at most {field} ({getattr(self, field)})"
                raise invalid("evaluations", rule, f"evaluations={self.evaluations}")

    @property
    def full_recipe(self) -> Recipe:
        """The backbone's recipe with the study's changes."""
        return dataclasses.replace(backbones.recipe_for(self.backbone), **self.recipe)

    def entry(self, cell: Cell) -> StudyTask:
        """The source or target that a cell trains on."""
        entries = self.sources if cell.kind == "source" else self.targets
        return next(entry for entry in entries if entry.name == cell.task)

    def steps(self, cell: Cell) -> int:
        """The training steps of a cell."""
        steps = self.source_steps if cell.kind == "source" else self.target_steps
        assert steps is not None
        return steps

    def cells(self) -> list[Cell]:
        """Every run of the grid: sources, then baselines, then transfers."""
        cells = [self._source_cell(source.name) for source in self.sources]
        grid = [
            (target.name, size, seed)
            for size in self.examples
            for seed in self.seeds
            for target in self.targets
        ]
        cells += [Cell("scratch", None, *place) for place in grid]
        return cells + [
            Cell("transfer", source.name, target, size, seed)
            for target, size, seed in grid
            for source in self.sources
            if source.name != target
        ]

    def needs(self, cell: Cell) -> Cell | None:
        """The cell whose prompt a cell starts from."""
        return self._source_cell(cell.source) if cell.kind == "transfer" else None

    def _source_cell(self, name: str | None) -> Cell:
        return Cell("source", name, None, None, self.source_seed)

    def record(self) -> dict[str, Any]:
        """The study as plain data, the form in which its folder keeps it."""
        record = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        record["sources"] = [entry.record() for entry in self.sources]
        record["targets"] = [entry.record() for entry in self.targets]
        return dict(json.loads(json.dumps(record)))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Study":
        """Return the study of plain data; the inverse of `record`."""
        known = [field.name for field in dataclasses.fields(cls)]
        for field in record:
            if field not in known:
                raise unknown("study", field, known)
        for field in ("sources", "targets"):
            if field not in record:
                raise invalid("study", f"must have the field {field!r}", sorted(record))
        return cls(**record)

    def check_continues(self, other: Mapping[str, Any]) -> None:
        """Raise InvalidArgument unless finished cells of another description are this one's too.

        A study may grow (sources, targets, seeds, sizes), be renamed, and find its data elsewhere.
        """
        mine = self.record()
        for field in mine:
            if field not in _FREE and mine[field] != other.get(field):
                rule = f"must hold a study with the same {field} ({mine[field]!r})"
                raise invalid("folder", rule, f"{field}={other.get(field)!r}")
        for field in ("sources", "targets"):
            before = {_name_in(entry): entry for entry in other[field]}
            for entry in mine[field]:
                old = before.get(_name_in(entry), entry)
                if old != entry:
                    rule = f"must hold a study with the same {field[:-1]} {_name_in(entry)}"
                    raise invalid("folder", rule, f"{old}")


def load(path: str | os.PathLike) -> Study:
    """Read a study from a `.yaml`, `.yml` or `.json` file: the fields of `Study`.

        sources: [mr, {task: snli, split: test}]
        targets: [glue/sst2, {task: reviews.yaml}]
        source_steps: 400
        target_steps: 100

    Paths of task records and of `data_dir` start at the file's own folder.

    Raises:
        MissingFile: no such file.
        InvalidArgument: not YAML or JSON, or what `Study` raises.
    """
    path = Path(path)
    if path.suffix not in (".yaml", ".yml", ".json"):
        raise invalid("study", "must be a .yaml, .yml or .json file", path)
    if not path.is_file():
        raise missing_file("study", "must be a file that exists", path)
    record = reading.read_yaml_or_json(path, argument="study")
    if not isinstance(record, dict):
        raise invalid("study", "must be one record of fields", f"{path} ({type(record).__name__})")
    with reading.parsing(path, "must hold a study", "study"), reading.naming(path):
        for field in ("sources", "targets"):
            if isinstance(record.get(field), list):
                record[field] = [_beside(path.parent, entry) for entry in record[field]]
        if isinstance(record.get("data_dir"), str):
            record["data_dir"] = str(path.parent / Path(record["data_dir"]).expanduser())
        return Study.from_record(record)


def _beside(folder: Path, entry: Any) -> Any:
    if isinstance(entry, Mapping) and isinstance(entry.get("task"), str):
        return {**entry, "task": _beside(folder, entry["task"])}
    is_record = isinstance(entry, str) and Path(entry).suffix in (".yaml", ".yml", ".json")
    return str(folder / entry) if is_record else entry


def _find(task: str | os.PathLike) -> tasks.Task:
    if Path(task).suffix in (".yaml", ".yml", ".json"):
        return tasks.load(task)
    return tasks.get(str(task))


def _entries(field: str, values: Any) -> tuple[StudyTask, ...]:
    if isinstance(values, (str, Mapping)) or not isinstance(values, Sequence) or not values:
        raise invalid(field, "must be a list of at least one task", f"{field}={values!r}")
    entries = tuple(_entry(field, value) for value in values)
    seen: set[str] = set()
    for entry in entries:
        if entry.name.replace("/", ".") in seen:
            raise invalid(field, "must name every task once", f"{entry.name} twice")
        seen.add(entry.name.replace("/", "."))
    return entries


def _entry(field: str, value: Any) -> StudyTask:
    if isinstance(value, StudyTask):
        return value
    if not isinstance(value, Mapping):
        return StudyTask(value)
    known = [f.name for f in dataclasses.fields(StudyTask)]
    for name in value:
        if name not in known:
            raise unknown(field, name, known)
    if "task" not in value:
        raise invalid(field, "must give each task's name as `task`", f"{dict(value)}")
    task = value["task"]
    if isinstance(task, Mapping):
        task = tasks.Task(**task)
    return StudyTask(**{**value, "task": task})


def _name_in(entry: Mapping[str, Any]) -> str:
    task = entry["task"]
    return str(task if isinstance(task, str) else task["name"])


def _distinct(field: str, values: Any, atoms: tuple[type, ...]) -> tuple[Any, ...]:
    whole = isinstance(values, (list, tuple)) and all(type(value) in atoms for value in values)
    if not whole or not values or len(set(values)) < len(values):
        rule = "must be a list of different whole numbers"
        raise invalid(field, rule + (" or null" if len(atoms) > 1 else ""), f"{field}={values!r}")
    return tuple(values)


def _positive(field: str, value: Any) -> None:
    if value is not None and (type(value) is not int or value < 1):
        raise invalid(field, "must be a positive integer", f"{field}={value!r}")
