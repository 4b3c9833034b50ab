"""Prompts that learn from the answers of trained prompts."""

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from keras import ops

from keras_spot import backbones
from keras_spot.base import remote
from keras_spot.base.devices import replicas
from keras_spot.base.errors import invalid, missing_file
from keras_spot.base.types import Array, PathLike, Tensor
from keras_spot.model.losses import per_prompt, sum_shown_as_mean
from keras_spot.model.plain.forward import PlainT5
from keras_spot.model.soft_prompt import SoftPrompt
from keras_spot.prompts.initializers import FromNumpy
from keras_spot.prompts.prompt import Prompt

__all__ = ["WEIGHT", "Distillation", "Teachers", "read_teacher", "teach"]

WEIGHT = 0.9
"""Of what is learned from the teachers, beside the task's own loss; a choice of this package."""


Teacher: TypeAlias = PathLike | Array | Prompt | FromNumpy
Teachers: TypeAlias = Teacher | Sequence[Teacher] | None
"""A trained prompt, or of a bank one for each; None for no longer."""


class Distillation:
    """How far a model's prompts are from their teachers, trained prompts on the same backbone.

    The source stage of multitask prompt tuning (Wang et al. 2023, arXiv 2303.02861, section 3.2)
    adds to each task's loss

        weight * (KL(teacher's tokens || student's tokens) + mean((teacher - student) ** 2))

    The first is a mean over the target's positions; the second over the hidden states, the
    encoder's last of every input token and the decoder's last of every target position, each behind
    its norm. The prompts' own positions are left out, so a teacher may have another length than its
    student. The default weight is this package's choice, not known to be the authors'.

    Args:
        backbone: the frozen `T5Backbone`.
        teachers: K prompts `[P, H]`, all of one length; one without a bank.
        is_bank: whether the students are a bank's.
        weight: see above.
        prompt_attention: what the teachers see, see `PromptedT5`.

    Raises:
        InvalidArgument: teachers of several lengths or of another width, or a weight that is not
            positive.
    """

    def __init__(
        self,
        backbone: Any,
        teachers: Sequence[np.ndarray],
        is_bank: bool,
        weight: float = WEIGHT,
        prompt_attention: str = "full",
    ) -> None:
        if not isinstance(weight, (int, float)) or not 0 < weight < float("inf"):
            raise invalid("weight", "must be a positive number", f"{weight=}")
        shapes = sorted({tuple(teacher.shape) for teacher in teachers})
        if len(shapes) > 1 or shapes[0][1] != backbone.hidden_dim:
            rule = f"must be prompts of one length and of the width {backbone.hidden_dim}"
            raise invalid("teachers", rule, ", ".join(map(str, shapes)))
        starts = [FromNumpy(teacher) for teacher in teachers]
        soft_prompt = SoftPrompt(
            initializer=starts if is_bank else starts[0],
            num_prompts=len(starts) if is_bank else None,
            trainable=False,
            name="teachers",
        )
        soft_prompt.build((None, None, backbone.hidden_dim))
        self.count = len(starts)
        self.weight = float(weight)
        self.backbone = backbone
        self.teachers = PlainT5(backbone, soft_prompt, prompt_attention)

    def loss(
        self, inputs: dict[str, Tensor], states: Tensor, hidden: Tensor, logits: Tensor
    ) -> Tensor:
        """Return the weighted distance of a batch, a bank's as `losses.bank_loss` has its own.

        Args:
            inputs: of the model.
            states: the student's encoder states `[B, P + T, H]`.
            hidden: the student's decoder states `[B, D, H]`, before their norm.
            logits: the student's `[B, D, V]`.
        """
        ids, index = inputs["encoder_token_ids"], inputs.get("prompt_index")
        targets = inputs["decoder_padding_mask"]
        teacher_states, mask = self.teachers.encode(ids, inputs["encoder_padding_mask"], index)
        teacher_hidden = self.teachers.decoder_states(
            inputs["decoder_token_ids"], targets, teacher_states, mask
        )
        wanted = ops.stop_gradient(self.teachers.logits(teacher_hidden))
        tokens = _divergence(wanted, logits)
        length = ops.shape(ids)[1]
        parts = [
            _squared(teacher_states[:, -length:], states[:, -length:]),
            _squared(self._normed(teacher_hidden), self._normed(hidden)),
        ]
        weights = [inputs["encoder_padding_mask"], targets]
        if index is None:
            index = ops.zeros((ops.shape(ids)[0],), "int32")
        of_tokens, present = per_prompt(tokens, targets, index, self.count)
        both = ops.concatenate(parts, axis=1), ops.concatenate(weights, axis=1)
        of_states, _ = per_prompt(*both, index, self.count)
        losses = self.weight * (of_tokens + of_states)
        # Keras divides what a layer adds by the replicas, the task's loss it does not.
        return sum_shown_as_mean(losses, present) * replicas()

    def _normed(self, hidden: Tensor) -> Tensor:
        return self.teachers.norm(self.backbone.decoder_layer_norm, hidden)


def teach(model: Any, teachers: Teachers, weight: float = WEIGHT) -> None:
    """Let a model's `fit` also learn from the answers of trained prompts.

    The teachers are no part of the model and are not saved with it.

    Args:
        model: `PromptedT5`.
        teachers: a trained prompt (path, address, array, `Prompt`, or `initializers.mean_of`
            several), of a bank a list with one for each prompt; they may be longer or shorter than
            what is trained, and see what they were trained to see. None: no longer.
        weight: of what is learned from them, beside the task's loss, see `Distillation`.

    Raises:
        InvalidArgument: another number of teachers than of prompts, several lengths, or a prompt
            of another width or backbone, or teachers of several `prompt_attention`s.
        MissingFile: a path where nothing is.
    """
    made = None
    if teachers is not None:
        given: list[Any] = [*teachers] if isinstance(teachers, (list, tuple)) else [teachers]
        count = model.soft_prompt.count
        if len(given) != count:
            raise invalid("teachers", f"must be {count}, one for each prompt", f"{len(given)}")
        starts = [read_teacher(teacher, "teachers") for teacher in given]
        sources = [source for start in starts for source in start.sources]
        for source in sources:
            backbones.check_fingerprint(source, model.fingerprint, "teachers")
        values = [start.values for start in starts]
        is_bank = model.num_prompts is not None
        seen = _attention_of(sources) or model.prompt_attention
        made = Distillation(model.backbone, values, is_bank, weight, seen)
    model.forward_pass.distillation = made
    if model.train_function is not None:
        model.make_train_function(force=True)


def read_teacher(teacher: Teacher, argument: str = "teacher") -> FromNumpy:
    """Return a teacher's numbers, without a model.

    Raises:
        InvalidArgument: no trained prompt.
        MissingFile: a path where nothing is.
    """
    if isinstance(teacher, FromNumpy):
        return teacher
    if isinstance(teacher, (str, os.PathLike)):
        if not remote.is_remote(teacher) and not os.path.exists(teacher):
            rule = "must be an existing path, or an address, of a trained prompt"
            raise missing_file(argument, rule, f"{argument}={os.fspath(teacher)!r}")
    elif not isinstance(teacher, Prompt) and not hasattr(teacher, "__array__"):
        raise invalid(argument, "must be a trained prompt", f"a {type(teacher).__name__}")
    return FromNumpy(teacher)


def _attention_of(teachers: Sequence[Prompt]) -> str | None:
    """Return the `prompt_attention` that teachers were trained with, None where none records it."""
    given = [teacher.provenance.get("prompt_attention") for teacher in teachers]
    recorded = sorted({seen for seen in given if seen is not None})
    if len(recorded) > 1:
        rule = "must have been trained with one prompt_attention"
        raise invalid("teachers", rule, ", ".join(recorded))
    return recorded[0] if recorded else None


def _divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence `[B, D]` of two logits `[B, D, V]`."""
    teacher, student = (
        ops.log_softmax(ops.cast(logits, "float32"), axis=-1) for logits in (teacher, student)
    )
    return ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)


def _squared(teacher: Tensor, student: Tensor) -> Tensor:
    """Return the mean squared difference `[B, S]` of states `[B, S, H]`."""
    teacher = ops.stop_gradient(ops.cast(teacher, "float32"))
    return ops.mean(ops.square(teacher - ops.cast(student, "float32")), axis=-1)
