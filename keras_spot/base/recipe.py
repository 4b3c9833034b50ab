"""The paper's training recipe, as one literal record."""

import dataclasses


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
    """

    prompt_length: int = 100
    batch_size: int = 32
    learning_rate: float = 0.3
    weight_decay: float = 1e-5
    decay_rate: float = 0.8
    z_loss: float = 1e-4
    label_smoothing: float = 0.0
    dropout: float = 0.0
    prompt_attention: str = "full"
    steps: int = 30_000
    checkpoint_every: int = 500
    prompt_init: str = "sampled_vocab"
