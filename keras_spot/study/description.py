"""What a study is: sources, targets, seeds and budgets, from Python or from a YAML file."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_spot import backbones
from keras_spot.base import reading
from keras_spot.base.choices import KERNELS, METHODS, Kernels
from keras_spot.base.errors import invalid, missing_file, unknown
from keras_spot.base.fields import FLAG
from keras_spot.base.recipe import Recipe
from keras_spot.study import methods as methods_module
from keras_spot.study.cells import LEARNED, SHARED, Cell
from keras_spot.study.entries import StudyTask, entries, name_in
from keras_spot.study.methods import Method

__all__ = ["SCORES", "Study", "load"]

SCORES = ("best", "last")
# What a study may change and still go on in its folder: it adds cells, or says where things are.
_FREE = frozenset({"name", "sources", "targets", "seeds", "examples", "data_dir", "kernels"})
_FREE |= {"remat", "methods"}
_MOST_RUNS = 1_000_000
_RECIPE = tuple(field.name for field in dataclasses.fields(Recipe))
_NUMBERS = (
    "source_steps",
    "target_steps",
    "tuning_steps",
    "embedding_steps",
    "evaluations",
    "validation_limit",
    "input_length",
)


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
        remat: less memory for more work, see `keras_spot.build`. Default False.
        input_length: input tokens at most. Default: the tasks' longest.
        data_dir: where prepared TFDS data lie. Default: TFDS' own folder.
        methods: ways of training to compare, name -> the fields of `Method`. All make the same
            steps on the same examples in the same order, from the same initial prompts; the
            first is what the others are compared with. A source's prompt of each length is trained
            by the first method of that length and starts all of its methods. Rates are chosen on
            the sources. Default: none to compare.
        tuned_on: names of the sources that rates are chosen on. Default: all.
        tuning_steps: steps of the runs that rates are chosen by. Default: `target_steps`.

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
    kernels: Kernels = "auto"
    remat: bool = False
    input_length: int | None = None
    data_dir: str | None = None
    methods: Mapping[str, object] | None = None
    tuned_on: Sequence[str] | None = None
    tuning_steps: int | None = None

    def __post_init__(self) -> None:
        for field in ("sources", "targets"):
            object.__setattr__(self, field, entries(field, getattr(self, field)))
        for field, atom in (("seeds", (int,)), ("examples", (int, type(None)))):
            object.__setattr__(self, field, _distinct(field, getattr(self, field), atom))
        for field in _NUMBERS:
            _positive(field, getattr(self, field))
        for size in self.examples:
            _positive("examples", size)
        _check_choices(self)
        for field in self.recipe:
            if field not in _RECIPE or field == "steps":
                raise unknown("recipe", field, [name for name in _RECIPE if name != "steps"])
        object.__setattr__(self, "_methods", methods_module.entries(self.methods))
        names = [source.name for source in self.sources]
        for name in self.tuned_on or ():
            if name not in names:
                raise unknown("tuned_on", name, names)
        for source in self.sources:
            if source.sources is not None:
                raise invalid("sources", "must be given of a target alone", source.name)
        for target in self.targets:
            for name in target.sources or ():
                if name not in names:
                    raise unknown("sources", name, names)
        object.__setattr__(self, "backbone", str(self.backbone))
        object.__setattr__(self, "recipe", dict(self.recipe))
        if self.data_dir is not None:
            object.__setattr__(self, "data_dir", str(self.data_dir))
        self._fill_steps()
        methods_module.check_mixed(self.prompt_methods, self.sources, self.targets)
        grid = len(self.targets) * len(self.seeds) * len(self.examples) * len(self.methods or " ")
        if len(self.sources) + grid * (1 + len(self.sources)) > _MOST_RUNS:
            rule = f"must have at most {_MOST_RUNS} runs"
            received = f"{len(self.sources)} sources, {grid} runs of a target each"
            raise invalid("study", rule, received)

    def _fill_steps(self) -> None:
        recipe = self.full_recipe  # whose values are checked, too
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
        least = max(self.embedding_steps or 0, self.evaluations)
        if self.tuning_steps is not None and self.tuning_steps < least:
            rule = f"must be at least {least}, as embedding_steps and evaluations need"
            raise invalid("tuning_steps", rule, f"tuning_steps={self.tuning_steps}")

    @property
    def full_recipe(self) -> Recipe:
        """The backbone's recipe with the study's changes."""
        return dataclasses.replace(backbones.recipe_for(self.backbone), **self.recipe)

    @property
    def prompt_methods(self) -> dict[str, Method]:
        """The methods to compare by name, none where nothing is compared."""
        methods: dict[str, Method] = getattr(self, "_methods")  # noqa: B009  set when made
        return methods

    def entry(self, cell: Cell) -> StudyTask:
        """The source or target that a cell trains on."""
        known = self.sources if cell.target is None else self.targets
        return next(entry for entry in known if entry.name == cell.task)

    def steps(self, cell: Cell) -> int:
        """The training steps of a cell."""
        steps = self.source_steps if cell.kind == "source" else self.target_steps
        if cell.kind == "tuning" and self.tuning_steps is not None:
            steps = self.tuning_steps
        assert steps is not None
        return steps

    def cells(self) -> list[Cell]:
        """Every run of the grid: those that tune, sources, then baselines and transfers."""
        methods: list[str | None] = [*self.prompt_methods] or [None]
        cells = [cell for method in self.prompt_methods.values() for cell in self.tuning(method)]
        trained = dict.fromkeys(self._source_method(method) for method in methods)
        cells += [self._source_cell(s.name, method) for method in trained for s in self.sources]
        mixed = {m.name: m.transfer for m in self.prompt_methods.values() if m.transfer}
        cells += [self._source_cell(SHARED, m) for m in mixed if mixed[m] == SHARED]
        grid = [
            (target.name, size, seed)
            for size in self.examples
            for seed in self.seeds
            for target in self.targets
        ]
        # Of several methods every seed is run with all of them before the next one, so that an
        # unfinished study compares what it has.
        alone = [m for m in methods if m not in mixed]
        for places in [[place] for place in grid] if self.prompt_methods else [grid]:
            cells += [Cell("scratch", None, *place, m) for place in places for m in alone]
            cells += [
                Cell("transfer", source, target, size, seed, method)
                for target, size, seed in places
                for source in self.sources_of(target)
                for method in alone
            ]
            cells += [Cell("transfer", mixed[m], *place, m) for place in places for m in mixed]
        return cells

    def sources_of(self, target: str) -> list[str]:
        """The names of the sources that a target is started from."""
        entry = next(entry for entry in self.targets if entry.name == target)
        names = [source.name for source in self.sources]
        return [n for n in names if n != target and (entry.sources is None or n in entry.sources)]

    @property
    def has_own_sources(self) -> bool:
        """Whether every target has one source, and not all of them the same."""
        own = [self.sources_of(target.name) for target in self.targets]
        return all(len(names) == 1 for names in own) and len({names[0] for names in own}) > 1

    def starts(self, cell: Cell) -> list[Cell]:
        """The cells whose prompts a cell starts from: none, one, or those it mixes."""
        if self.mixes(cell):
            names = [source.name for source in self.sources if source.name != cell.task]
        else:
            names = [cell.source or ""] if cell.kind == "transfer" else []
        if names == [SHARED]:
            return [self._source_cell(SHARED, cell.method)]
        return [self._source_cell(name, self._source_method(cell.method)) for name in names]

    def mixes(self, cell: Cell) -> bool:
        """Whether a cell starts from the prompts of several sources, or learns from them."""
        transfer = None if cell.method is None else self.prompt_methods[cell.method].transfer
        return transfer == LEARNED or cell.is_shared

    def needs(self, cell: Cell) -> list[Cell]:
        """The cells that must be finished before a cell."""
        needed = self.starts(cell)
        if cell.method is None or cell.kind == "tuning":
            return needed
        return [*needed, *self.tuning(self.prompt_methods[cell.method])]

    def tuning(self, method: Method) -> list[Cell]:
        """The runs that a method's rate is chosen by, none where it has only one."""
        rates = method.learning_rates or ()
        names = self.tuned_on or [source.name for source in self.sources]
        return [
            Cell("tuning", name, None, None, self.source_seed, method.name, rate)
            for rate in rates
            for name in (names if len(rates) > 1 else ())
        ]

    def _source_method(self, method: str | None) -> str | None:
        """Return the first method of a method's prompt length."""
        if method is None:
            return None
        length = self.prompt_methods[method].prompt_length
        return next(
            name
            for name, one in self.prompt_methods.items()
            if one.prompt_length == length and not one.transfer
        )

    def _source_cell(self, name: str | None, method: str | None) -> Cell:
        return Cell("source", name, None, None, self.source_seed, method)

    def record(self) -> dict[str, Any]:
        """The study as plain data, the form in which its folder keeps it."""
        record = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        record["sources"] = [entry.record() for entry in self.sources]
        record["targets"] = [entry.record() for entry in self.targets]
        if self.methods is not None:
            record["methods"] = {
                name: method.record() for name, method in self.prompt_methods.items()
            }
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
        self._check_methods(other.get("methods") or {})
        for field in ("sources", "targets"):
            before = {name_in(entry): entry for entry in other[field]}
            for entry in mine[field]:
                old = before.get(name_in(entry), entry)
                if old != entry:
                    rule = f"must hold a study with the same {field[:-1]} {name_in(entry)}"
                    raise invalid("folder", rule, f"{old}")

    def _check_methods(self, before: Mapping[str, Any]) -> None:
        """Raise unless methods of before are what they were, and come first."""
        for name in before:
            if name in self.prompt_methods and self.prompt_methods[name].record() != before[name]:
                rule = f"must hold a study with the same method {name}"
                raise invalid("folder", rule, f"{before[name]}")
        kept = [name for name in before if name in self.prompt_methods]
        if list(self.prompt_methods)[: len(kept)] != kept:
            names = ", ".join(self.prompt_methods)
            rule = f"must hold a study whose methods are the first ones ({names})"
            raise invalid("folder", rule, ", ".join(before))


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


def _check_choices(study: Study) -> None:
    for field, known in (("score", SCORES), ("method", METHODS), ("kernels", KERNELS)):
        if getattr(study, field) not in known:
            raise unknown(field, getattr(study, field), known)
    if not FLAG.holds(study.remat):
        raise invalid("remat", FLAG.text, f"remat={study.remat!r}")


def _distinct(field: str, values: Any, atoms: tuple[type, ...]) -> tuple[Any, ...]:
    whole = isinstance(values, (list, tuple)) and all(type(value) in atoms for value in values)
    if not whole or not values or len(set(values)) < len(values):
        rule = "must be a list of different whole numbers"
        raise invalid(field, rule + (" or null" if len(atoms) > 1 else ""), f"{field}={values!r}")
    return tuple(values)


def _positive(field: str, value: Any) -> None:
    if value is not None and (type(value) is not int or value < 1):
        raise invalid(field, "must be a positive integer", f"{field}={value!r}")
