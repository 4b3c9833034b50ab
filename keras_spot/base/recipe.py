"""The paper's training recipe, as one literal record."""

import dataclasses

from keras_spot.base import fields
from keras_spot.base.choices import PROMPT_ATTENTION
from keras_spot.base.fields import AMOUNT, EXPONENT, POSITIVE, RATE, SHARE, TEXT, about

__all__ = ["Recipe"]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a prompt is trained; the defaults are those of SPoT for every size of T5.

    Source: Vu et al. 2022 (arXiv 2110.07904), section 2.1 and the configurations
    published with google-research/prompt-tuning. The paper's text says dropout 0.1, the
    published configuration sets it to 0; the default follows the configuration.

    Attributes:
        prompt_length: P, in tokens.
        batch_size: examples a step.
        learning_rate: constant rate of Adafactor, in units of the embedding table.
        weight_decay: absolute rate a step, not multiplied by the learning rate.
        decay_rate: exponent of Adafactor's second-moment decay.
        z_loss: weight of the squared log-partition term.
        label_smoothing: mass spread over the vocabulary.
        dropout: rate inside the frozen backbone while training.
        prompt_attention: what the prompt sees, see `PromptedT5`.
        steps: training steps.
        checkpoint_every: steps between checkpoints and validations.
        prompt_init: initial prompt where none is given.

    Raises:
        InvalidArgument: a value that breaks its rule: a number that is not positive or not finite,
            a share outside [0, 1), an unknown `prompt_attention`.
    """

    prompt_length: int = dataclasses.field(
        default=100, metadata=about("Prompt tokens.", rule=POSITIVE, option=int)
    )
    batch_size: int = dataclasses.field(
        default=32, metadata=about("Examples of each prompt a step.", rule=POSITIVE, option=int)
    )
    learning_rate: float = dataclasses.field(
        default=0.3, metadata=about("Constant rate.", rule=RATE)
    )
    weight_decay: float = dataclasses.field(
        default=1e-5, metadata=about("Absolute rate a step.", rule=SHARE, option=float)
    )
    decay_rate: float = dataclasses.field(
        default=0.8, metadata=about("Of the second moment, an exponent.", rule=EXPONENT)
    )
    z_loss: float = dataclasses.field(
        default=1e-4, metadata=about("Weight of the squared log-partition term.", rule=AMOUNT)
    )
    label_smoothing: float = dataclasses.field(
        default=0.0, metadata=about("Mass spread over the vocabulary.", rule=SHARE)
    )
    dropout: float = dataclasses.field(
        default=0.0, metadata=about("Dropout while training.", rule=SHARE, option=float)
    )
    prompt_attention: str = dataclasses.field(
        default="full", metadata=about("What prompts see.", rule=fields.one_of(*PROMPT_ATTENTION))
    )
    steps: int = dataclasses.field(default=30_000, metadata=about("Training steps.", rule=POSITIVE))
    checkpoint_every: int = dataclasses.field(
        default=500,
        metadata=about("Steps between checkpoints and validations.", rule=POSITIVE, option=int),
    )
    prompt_init: str = dataclasses.field(
        default="sampled_vocab", metadata=about("Initial prompt.", rule=TEXT)
    )

    def __post_init__(self) -> None:
        fields.check(self)
