"""What one run is: one prompt, or K of a bank, on what, from what, where and how long."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_spot import backbones, tasks
from keras_spot.base import fields
from keras_spot.base.choices import (
    KERNELS,
    METHODS,
    PROMPT_ATTENTION,
    QUANTIZE,
    Kernels,
    Quantize,
)
from keras_spot.base.errors import invalid
from keras_spot.base.fields import FLAG, POSITIVE, RATE, TEXT, WHOLE, about
from keras_spot.base.recipe import Recipe
from keras_spot.base.types import Backbone, PathLike, Tokenizer
from keras_spot.training.members import Member, check_rates, check_teachers, members_of
from keras_spot.training.options import (
    REPARAMETERIZATIONS,
    DevicesLike,
    Reparameterized,
    Start,
    TaskLike,
    check_reparameterization,
    shares_a_part,
)
from keras_spot.training.record import fields_of, record_of

if TYPE_CHECKING:
    from keras_spot.tasks import Task  # `tasks` is a property of `Run`

__all__ = ["Run"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A training run, of one prompt or of a bank of K; `execute` makes it.

    It is a bank's if one of `task`, `seed`, `learning_rate` and `prompt_init` is a list of K, or
    if there are `names`; what is no list then is the same for all prompts.

    Attributes:
        task: name or `tasks.Task`; of one prompt also a `tasks.Mixture`, which is drawn from as
            `load_mixture` does and scored by the mean of its tasks' scores.
        names: of a bank, K names. Default: what tells the prompts apart, such as `"glue/sst2"`,
            `"seed1"` or `"glue/sst2-rate0.1"`.
        seed: of the sampled initial prompt, of dropout and of the order of the examples. Default 0.
        learning_rate: constant rate. Default: the recipe's.
        prompt_init: see `build`: another run's folder or file is SPoT's transfer. Default: the
            recipe's.
        backbone: see `build`. Default `"tiny"`, the embedded one.
        tokenizer: see `build`. Default: the backbone's own.
        recipe: `Recipe`. Default: the backbone's.
        steps: training steps. Default: the recipe's.
        prompt_attention: see `build`.
        data_dir: where prepared TFDS data lie. Default: TFDS' own folder.
        split: what to train on, e.g. `"train[:64]"`. Default `"train"`.
        examples: only so many rows of the split; every seed draws its own. Default: all.
        validation_split: what to score every `recipe.checkpoint_every` steps. Default: the
            task's validation splits; `""` for none.
        validation_limit: examples of each validation split at most. Default: all.
        method: `"generate"` (default), `"beam"` or `"rank"`, see `evaluate`.
        input_length: input tokens at most. Default: the task's.
        devices: what `keras_spot.devices` takes, such as `"model:8"`. Default `"auto"`.
        dtype: dtype policy of a backbone loaded by name, see `build`. Default: Keras' own.
        quantize: `"int8"` or `"int4"`, see `build`. Default: the backbone as it is.
        kernels: `"auto"` (default), `"plain"` or `"fast"`, see `build`.
        remat: less memory for more work, see `build`; the numbers stay the same. Default False.
        skip_nonfinite: how many steps that leave a loss, gradient or prompt which is not finite to
            undo at most, with a warning for each; one more stops the run. Default 0.
        reparameterization: what is trained in the prompts' place, see `build`. Default: None, the
            prompts themselves.
        teacher: a trained prompt from whose answers this one also learns, see
            `PromptedT5.distill`; of a bank a list of K. Default: None.
        distillation_weight: of what is learned from the teachers, beside the task's loss. Default:
            0.9 where there are any.

    Raises:
        InvalidArgument: a value that breaks its rule, an unknown name, or lists of several lengths.
    """

    task: TaskLike | Sequence[TaskLike] = dataclasses.field(
        metadata=about(
            "Task name (see `tasks`) or a .yaml/.json task record.",
            option=str,
            metavar="NAME",
            several=True,
        )
    )
    names: Sequence[str] | None = dataclasses.field(
        default=None,
        metadata=about(
            "A name for each prompt. Default: what tells them apart.", rule=TEXT, several=True
        ),
    )
    seed: int | Sequence[int] = dataclasses.field(
        default=0,
        metadata=about(
            "Of the initial prompt, of dropout and of the order of the data. Default: 0.",
            rule=WHOLE,
            option=int,
            several=True,
        ),
    )
    learning_rate: float | Sequence[float] | None = dataclasses.field(
        default=None,
        metadata=about(
            "Constant rate. Default: the recipe's.", rule=RATE, option=float, several=True
        ),
    )
    prompt_init: Start | Sequence[Start] = dataclasses.field(
        default=None,
        metadata=about(
            "Initial prompt: a file, run folder or address (SPoT's transfer), or sampled_vocab, "
            "class_labels or uniform. Default: the recipe's.",
            option=str,
            metavar="PROMPT",
            several=True,
        ),
    )
    backbone: PathLike | Backbone = dataclasses.field(
        default="tiny",
        metadata=about(
            "'tiny' (embedded), a preset or LM-adapted size by name, or the folder or address of a "
            "preset, a Hugging Face T5 or a T5X checkpoint.",
            option=str,
            metavar="NAME",
        ),
    )
    tokenizer: PathLike | Tokenizer | None = dataclasses.field(
        default=None, metadata=about("SentencePiece model.")
    )
    recipe: Recipe | None = dataclasses.field(default=None, metadata=about("The recipe."))
    steps: int | None = dataclasses.field(
        default=None,
        metadata=about("Training steps. Default: the recipe's.", rule=POSITIVE, option=int),
    )
    prompt_attention: str | None = dataclasses.field(
        default=None,
        metadata=about(
            "What prompts see: full, prompt or causal. Default: as the initial prompt was "
            "trained, else full.",
            rule=fields.one_of(*PROMPT_ATTENTION),
            option=str,
            metavar="KIND",
        ),
    )
    data_dir: PathLike | None = dataclasses.field(
        default=None,
        metadata=about(
            "Folder with prepared TFDS data. Default: TFDS' own.", option=str, metavar="DIR"
        ),
    )
    split: str = dataclasses.field(
        default="train",
        metadata=about("Split or TFDS slice to train on.", rule=TEXT, option=str, metavar="SPLIT"),
    )
    examples: int | None = dataclasses.field(
        default=None,
        metadata=about(
            "Train on so many rows only; every seed draws its own. Default: all.",
            rule=POSITIVE,
            option=int,
        ),
    )
    validation_split: str | None = dataclasses.field(
        default=None,
        metadata=about(
            "Split or slice to score; '' for none. Default: the task's.",
            rule=TEXT,
            option=str,
            metavar="SPLIT",
        ),
    )
    validation_limit: int | None = dataclasses.field(
        default=None,
        metadata=about(
            "Only the first examples of each split. Default: all.", rule=POSITIVE, option=int
        ),
    )
    method: str = dataclasses.field(
        default="generate",
        metadata=about(
            "Decode greedily or with beams, or rank the labels.",
            rule=fields.one_of(*METHODS),
            option=METHODS,
        ),
    )
    input_length: int | None = dataclasses.field(
        default=None,
        metadata=about("Input tokens at most. Default: the task's.", rule=POSITIVE, option=int),
    )
    devices: DevicesLike = dataclasses.field(
        default="auto",
        metadata=about(
            "auto, one_device, mirrored, tpu, data, or with JAX fsdp:8, model:8, data:2,model:4.",
            option=str,
            metavar="LAYOUT",
        ),
    )
    dtype: str | None = dataclasses.field(
        default=None,
        metadata=about(
            "Dtype policy, e.g. mixed_bfloat16. Default: float32.", option=str, metavar="POLICY"
        ),
    )
    quantize: Quantize | None = dataclasses.field(
        default=None,
        metadata=about(
            "Keep the backbone's projections in 8 or 4 bits. Default: as they are.",
            rule=fields.one_of(*QUANTIZE),
            option=QUANTIZE,
        ),
    )
    kernels: Kernels = dataclasses.field(
        default="auto",
        metadata=about(
            "How the numbers are computed: fast takes what is written for CPUs.",
            rule=fields.one_of(*KERNELS),
            option=KERNELS,
        ),
    )
    remat: bool = dataclasses.field(
        default=False,
        metadata=about("Less memory, more work; the same numbers.", rule=FLAG, option=bool),
    )
    reparameterization: Reparameterized = dataclasses.field(
        default=None,
        metadata=about(
            f"Train this in the prompt's place: {', '.join(REPARAMETERIZATIONS)}, or one with "
            """settings: '{"low-rank": {"rank": 16}}'. Default: the prompt itself.""",
            option=str,
            metavar="NAME",
        ),
    )
    teacher: Start | Sequence[Start] = dataclasses.field(
        default=None,
        metadata=about(
            "Also learn from this trained prompt's answers. Default: none.",
            option=str,
            metavar="PROMPT",
            several=True,
        ),
    )
    distillation_weight: float | None = dataclasses.field(
        default=None,
        metadata=about("Weight of what teachers teach. Default: 0.9.", rule=RATE, option=float),
    )
    skip_nonfinite: int = dataclasses.field(
        default=0,
        metadata=about(
            "Steps whose numbers are not finite to undo at most, before the run stops.",
            rule=WHOLE,
            option=int,
        ),
    )

    def __post_init__(self) -> None:
        fields.check(self)
        check_reparameterization(self.reparameterization)
        recipe = self.recipe or backbones.recipe_for(self.backbone)
        if isinstance(self.learning_rate, (int, float)):
            recipe = dataclasses.replace(recipe, learning_rate=float(self.learning_rate))
        object.__setattr__(self, "_full_recipe", recipe)
        given = {
            "task": self.task,
            "seed": self.seed,
            "learning_rate": self.learning_rate or recipe.learning_rate,
            "prompt_init": self.prompt_init,
            "teacher": self.teacher,
        }
        members = members_of(given, self.names, self.is_bank)
        check_rates(members, shares_a_part(self.reparameterization))
        check_teachers(members, self.distillation_weight)
        object.__setattr__(self, "_members", members)
        if self.examples is not None and self.is_mixture:
            raise invalid("examples", "must not be given with a mixture", f"{self.examples}")

    @property
    def full_recipe(self) -> Recipe:
        """The recipe that was given, else the backbone's, with the one learning rate."""
        recipe: Recipe = getattr(self, "_full_recipe")  # noqa: B009  set when made
        return recipe

    @property
    def total_steps(self) -> int:
        """The training steps: those given, else the recipe's."""
        return self.full_recipe.steps if self.steps is None else self.steps

    # === Prompts ===

    @property
    def members(self) -> tuple[Member, ...]:
        """The run's prompts: one, or K of a bank."""
        members: tuple[Member, ...] = getattr(self, "_members")  # noqa: B009  set when made
        return members

    @property
    def is_bank(self) -> bool:
        """Whether this is a bank's run."""
        several = (self.task, self.seed, self.learning_rate, self.prompt_init, self.teacher)
        return self.names is not None or any(isinstance(v, (list, tuple)) for v in several)

    @property
    def is_mixture(self) -> bool:
        """Whether the one prompt is trained on a mixture of tasks."""
        return isinstance(self.task, tasks.Mixture)

    @property
    def tasks(self) -> tuple[tasks.Task, ...]:
        """The tasks of all prompts."""
        return tuple(task for member in self.members for task in member.tasks)

    def scored(self, task: Task) -> tuple[str, ...]:
        """Return the splits of a task that are scored at every checkpoint."""
        if self.validation_split == "":
            return ()
        return (self.validation_split,) if self.validation_split else tuple(task.validation)

    # === Record ===

    def record(self) -> dict[str, Any]:
        """Return the run as the plain data that `run.json` holds, see `record.record_of`."""
        return record_of(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Run:
        """Return the run of a `run.json`; the inverse of `record`.

        Raises:
            InvalidArgument: a run that a file cannot tell whole: of a backbone, an initial prompt
                or a task's `preprocess` that were objects.
        """
        return cls(**fields_of(record, [field.name for field in dataclasses.fields(cls)]))
