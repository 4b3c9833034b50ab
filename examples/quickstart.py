# %% [markdown]
# # keras_spot in one minute
#
# A *soft prompt* is a short sequence of trained vectors in front of the input of a language model that never changes.
# Here we train three source prompts on a small T5 that comes with the package, find out which of them is most like a
# new task with 16 examples, start from it, and write a model that takes text. Everything runs on a CPU, without a network.

# %%
import pathlib
import tempfile

import numpy as np

import keras_spot
from keras_spot import plots

folder = pathlib.Path(tempfile.mkdtemp())
model = keras_spot.build("tiny", prompt_length=20)
trained = sum(int(np.prod(weight.shape)) for weight in model.trainable_variables)
print(f"{trained:,} of {model.count_params():,} numbers are trained: the prompt's")

# %% [markdown]
# It is a KerasHub model, so `fit` is the one you know. What comes after this is the same loop, with checkpoints, scores and
# a folder that continues.

# %%
rows = keras_spot.load_task(
    "synthetic/movies", "train[:160]", model.preprocessor.tokenizer, batch_size=16, input_length=64
)
history = model.fit(rows, epochs=3, verbose=0)
[round(loss, 2) for loss in history.history["loss"]]

# %% [markdown]
# ## Train three sources at once
#
# A *bank* holds several prompts on one backbone. Each is trained on its own task as it would be alone, and leaves a folder.

# %%
sources = ["synthetic/movies", "synthetic/topic", "synthetic/paraphrase"]
bank = keras_spot.train_bank(
    sources,
    folder / "sources",
    steps=30,
    recipe=keras_spot.Recipe(
        prompt_length=20, batch_size=16, learning_rate=0.2, checkpoint_every=15
    ),
    input_length=64,
    validation_limit=60,
    method="rank",
    progress=None,
)
for name, run in bank.runs.items():
    print(f"{name:22} validation accuracy {run.best['score']:.1f} at step {run.best['step']}")

# %% [markdown]
# ## Which source is most like the target?
#
# The target is sentiment about products, with 16 examples. A short run on it gives its *task embedding*: the prompt after
# few steps. Prompts of like tasks are alike, so the library ranks the sources by it.

# %%
recipe = keras_spot.Recipe(prompt_length=20, batch_size=16, learning_rate=0.2, checkpoint_every=10)
target = dict(
    steps=30,
    examples=16,
    recipe=recipe,
    input_length=64,
    validation_limit=60,
    method="rank",
    progress=None,
)
scratch = keras_spot.train("synthetic/products", folder / "scratch", **target)

library = keras_spot.PromptLibrary(folder / "library")
for name, run in bank.runs.items():
    library.add_run(run.run_dir, embedding_step=30, name=name)
ranking = library.rank(scratch.run_dir, by="per_token_cosine")
ranking

# %%
tasks = [*sources, "synthetic/products"]
embeddings = [library.embedding(name).values for name in sources]
embeddings.append(keras_spot.prompts.read(scratch.run_dir, "newest").values)
values = np.stack(embeddings)
similarities = [keras_spot.transfer.similarities(embedding, values) for embedding in embeddings]
plots.similarity_heatmap(
    similarities, tasks, marked=["synthetic/products"], title="Similarity of prompts"
)

# %% [markdown]
# ## Transfer
#
# The same steps on the same 16 examples, once from sampled words and once from the most similar source.

# %%
best = ranking[0][0]
transferred = keras_spot.train(
    "synthetic/products",
    folder / "transferred",
    prompt_init=bank.runs[best].run_dir,
    **target,
)
curves = {
    f"from {best}": [[(line["step"], line["score"]) for line in transferred.history]],
    "from sampled words": [[(line["step"], line["score"]) for line in scratch.history]],
}
plots.learning_curves(
    curves, title="synthetic/products, 16 examples", ylabel="validation accuracy", mark_best=True
)

# %%
evaluation = keras_spot.evaluate(
    transferred.model, "synthetic/products", method="rank", limit=100, progress=None
)
evaluation

# %% [markdown]
# One seed is an anecdote: `keras-spot demo` has three, and `keras-spot study` measures many sources with many seeds.
#
# ## Export
#
# A SavedModel has the tokenizer and the decoding loop inside. A server needs TensorFlow and its text ops, nothing of this
# package.

# %%
import tensorflow as tf

transferred.model.export(folder / "served")
serve = tf.saved_model.load(folder / "served").signatures["serving_default"]
texts = ["products sentence: it broke after a day", "products sentence: works like a charm"]
[answer.decode() for answer in serve(text=tf.constant(texts))["outputs"].numpy()]

# %% [markdown]
# ## Next
#
# - your own rows: `examples/own_data/own_data.ipynb`
# - a real T5: `keras_spot.build("flan_base_multi")`, or any of those in the documentation under "Other people's models"
