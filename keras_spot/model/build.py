"""From a backbone's name and a prompt's path to a compiled model."""

import os

import keras
import keras_hub
import numpy as np

from keras_spot import backbones, prompts
from keras_spot.base import remote
from keras_spot.base.errors import invalid, missing_file
from keras_spot.model.prompted_t5 import PromptedT5
from keras_spot.prompts import arithmetic, initializers


def build(
    backbone="tiny",
    prompt_init=None,
    *,
    prompt_length=None,
    tokenizer=None,
    recipe=None,
    labels=None,
    dropout=None,
    prompt_attention=None,
    input_length=512,
    target_length=32,
    dtype=None,
    seed=0,
    num_prompts=None,
    prompt_names=None,
    remat=False,
):
    """Return a frozen T5 with a soft prompt in front, compiled with the paper's recipe.

    Under a tf.distribute strategy call it inside `strategy.scope()`.

    Args:
        backbone: a `T5Backbone`, or whatever name, folder or address `backbones.load` takes.
            Default `"tiny"`, the embedded one.
        prompt_init: the initial prompt:
            a path or address (see `prompts`) or array `[P, H]`: a trained prompt, SPoT's
            transfer;
            a list or `{path: weight}` dictionary of those: their (weighted) mean;
            an initialiser; `"sampled_vocab"`, `"class_labels"` or `"uniform"` by name;
            any other text with a space in it: that text's embeddings.
            Default: the recipe's, `"sampled_vocab"`. Of a bank, one for all or a list of K.
        prompt_length: P. Default: the initial prompt's, else the recipe's (100).
        tokenizer: `T5Tokenizer` or a SentencePiece file. Default: the backbone's own.
        recipe: `Recipe`. Default: the preset's own, else the paper's.
        labels: label texts for `prompt_init="class_labels"`. Of a bank, the same for all or a list
            of K lists.
        dropout: rate inside the backbone while training. Default: the recipe's, 0.
        prompt_attention: what the prompt sees: `"full"`, `"prompt"` or `"causal"`, see
            `PromptedT5`. Default: what the initial prompt was trained with, else the recipe's.
        input_length: input tokens at most, longer texts are cut. Default 512.
        target_length: target tokens that `generate` may produce. Default 32.
        dtype: dtype policy of a backbone loaded by name: `"mixed_bfloat16"` computes in bfloat16,
            `"bfloat16"` also keeps the frozen weights in it, half the memory.
        seed: seed of sampled initial prompts. Default 0. Of a bank, the first prompt's, from
            which the others count up, or a list of K.
        num_prompts: K, for a bank of prompts on the one backbone, see `PromptedT5`. Default: the
            number of `prompt_names`, else None, one prompt.
        prompt_names: names of a bank's prompts, e.g. `["sst2", "cb"]`.
        remat: less memory for more work, see `PromptedT5`. Default False.

    Returns:
        A compiled `PromptedT5`; its one trainable variable is the prompt, P x H numbers; a bank's
        are its K prompts.

    Raises:
        ValueError: an argument that breaks its rule, a prompt of another width or backbone.
        FileNotFoundError: a `prompt_init` path where nothing is.
    """
    backbones.warn_of_span_corruption(backbone)
    recipe = recipe or backbones.recipe_for(backbone)
    backbone, tokenizer = backbones.load(backbone, tokenizer, dtype)
    if num_prompts is None and prompt_names is not None:
        num_prompts = len(prompt_names)
    starts, sources = [], []
    for one, its_labels, its_seed in zip(*_one_a_prompt(prompt_init, labels, seed, num_prompts)):
        given = recipe.prompt_init if one is None else one
        start, files = _initial_prompt(given, backbone, tokenizer, its_labels, its_seed)
        starts.append(start)
        sources += files
    if prompt_length is None and all(getattr(start, "length", None) is None for start in starts):
        prompt_length = recipe.prompt_length
    preprocessor = tokenizer and keras_hub.models.T5Seq2SeqLMPreprocessor(
        tokenizer, encoder_sequence_length=input_length, decoder_sequence_length=target_length
    )
    model = PromptedT5(
        backbone,
        preprocessor,
        prompt_length=prompt_length,
        prompt_initializer=starts[0] if num_prompts is None else starts,
        dropout=recipe.dropout if dropout is None else dropout,
        prompt_attention=prompt_attention
        or recorded_attention("prompt_init", [source.provenance for source in sources])
        or recipe.prompt_attention,
        recipe=recipe,
        num_prompts=num_prompts,
        prompt_names=prompt_names,
        remat=remat,
    )
    for source in sources:
        backbones.check_fingerprint(source, model.fingerprint)
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    expected = len(starts) * model.prompt_length * backbone.hidden_dim
    if trainable != expected:
        rule = f"must have {expected} trainable numbers, the prompt's, and no others"
        raise invalid("backbone", rule, f"{trainable}")
    return model


def _one_a_prompt(prompt_init, labels, seed, num_prompts):
    """Return the initial prompts, labels and seeds of K prompts, of one without a bank."""
    if num_prompts is None:
        return [prompt_init], [labels], [seed]
    inits = prompt_init if isinstance(prompt_init, list) else [prompt_init] * num_prompts
    if not labels or isinstance(labels[0], str):
        labels = [labels] * num_prompts
    seeds = seed if isinstance(seed, list) else [seed + number for number in range(num_prompts)]
    for name, found in (("prompt_init", inits), ("labels", labels), ("seed", seeds)):
        if len(found) != num_prompts:
            rule = f"must be one, or a list of {num_prompts}, one for each prompt"
            raise invalid(name, rule, f"{len(found)}")
    return inits, labels, seeds


def _initial_prompt(prompt_init, backbone, tokenizer, labels, seed):
    """Return a Keras initialiser and the prompts read for it."""
    is_path = isinstance(prompt_init, (str, os.PathLike))
    if is_path and (os.path.exists(prompt_init) or remote.is_remote(prompt_init)):
        prompt = prompts.read(prompt_init)
        return _from_values(prompt.values, backbone, prompt.path), [prompt]
    if isinstance(prompt_init, os.PathLike):
        raise missing_file("prompt_init", "must exist", str(prompt_init))
    if isinstance(prompt_init, (list, dict)):
        given = [p if isinstance(p, np.ndarray) else prompts.read(p) for p in prompt_init]
        values = [p if isinstance(p, np.ndarray) else p.values for p in given]
        weights = list(prompt_init.values()) if isinstance(prompt_init, dict) else None
        mean = arithmetic.average(values, weights)
        files = [p for p in given if isinstance(p, prompts.Prompt)]
        return _from_values(mean, backbone, "the mean"), files
    if isinstance(prompt_init, prompts.Prompt):
        return _from_values(prompt_init.values, backbone, prompt_init.path), [prompt_init]
    if isinstance(prompt_init, np.ndarray):
        values = prompts.as_prompt(prompt_init, "prompt_init")
        return _from_values(values, backbone, "an array"), []
    if isinstance(prompt_init, str):
        return named_prompt(prompt_init, backbone, tokenizer, labels, seed), []
    return keras.initializers.get(prompt_init), []


def recorded_attention(argument, provenances):
    """Return the one `prompt_attention` that prompts' provenances record, None if none does."""
    recorded = {provenance.get("prompt_attention") for provenance in provenances} - {None}
    if len(recorded) > 1:
        rule = "must hold prompts of one prompt_attention, unless that is given"
        raise invalid(argument, rule, ", ".join(sorted(recorded)))
    return recorded.pop() if recorded else None


def _from_values(values, backbone, where):
    if values.shape[1] != backbone.hidden_dim:
        rule = f"must have the backbone's hidden width {backbone.hidden_dim}"
        raise invalid("prompt_init", rule, f"shape={values.shape} in {where}")
    return initializers.from_numpy(values)


def named_prompt(name, backbone, tokenizer, labels, seed):
    """Return the initialiser of a `prompt_init` that is a name or a text, see `build`."""
    table = backbone.token_embedding.embeddings
    if name == "sampled_vocab":
        return initializers.sampled_vocab(table, seed=seed)
    if name == "uniform":
        return initializers.uniform(seed=seed)
    if name != "class_labels" and " " not in name.strip():
        rule = (
            "must be an existing path, a text with a space in it, "
            "'sampled_vocab', 'class_labels' or 'uniform'"
        )
        raise missing_file("prompt_init", rule, f"prompt_init={name!r}")
    if tokenizer is None:
        raise invalid("tokenizer", f"must be given for prompt_init={name!r}", "tokenizer=None")
    if name == "class_labels":
        if not labels:
            raise invalid("labels", "must be given for prompt_init='class_labels'", f"{labels=}")
        return initializers.class_labels(labels, tokenizer, table, seed=seed)
    return initializers.from_text(name, tokenizer, table)
