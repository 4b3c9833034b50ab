# %% [markdown]
# # From a CSV file to a served model
#
# Twenty messages of tenants, each a repair or a bill. We say how a row reads as text, train a prompt, look at what it gets
# wrong, and export it. The embedded T5 is small and the rows are few: look at the steps, not at the scores.

# %%
import pathlib
import tempfile

import keras_spot
from keras_spot import plots

folder = pathlib.Path(tempfile.mkdtemp())
print(pathlib.Path("train.csv").read_text()[:220])

# %% [markdown]
# ## A task is one record

# %%
print(pathlib.Path("task.yaml").read_text())
task = keras_spot.tasks.load("task.yaml")
for example in list(keras_spot.load_examples(task, "train"))[:3]:
    print(f"{example.input!r} -> {example.target!r}")

# %% [markdown]
# ## Train
#
# Every ten steps the prompt is scored on `dev.csv`. The folder holds every checkpoint, and the same call continues it.

# %%
recipe = keras_spot.Recipe(prompt_length=20, batch_size=16, learning_rate=0.2, checkpoint_every=10)
run = keras_spot.train(
    task,
    folder / "requests",
    recipe=recipe,
    steps=40,
    input_length=32,
    method="rank",
    progress=None,
)
plots.learning_curves(
    {"requests": [[(line["step"], line["score"]) for line in run.history]]},
    title="Requests of tenants",
    ylabel="accuracy on dev.csv",
    mark_best=True,
)

# %% [markdown]
# ## Look at the answers
#
# The best step's prompt in a model of its own: how each class fares, what is taken for what, and every answer.

# %%
model = keras_spot.build("tiny", prompt_init=run.run_dir, input_length=32)
evaluation = keras_spot.evaluate(model, task, method="rank", progress=None)
evaluation

# %%
for row in evaluation.predictions:
    print(f"{row['prediction']:8} (is {row['target']:8}) {row['input']}")

# %% [markdown]
# ## Export

# %%
import tensorflow as tf

model.export(folder / "served", tasks=task)
classify = tf.saved_model.load(folder / "served").signatures["classify"]
texts = ["request: The garage door does not open.", "request: I have not got the bill for April."]
served = classify(text=tf.constant(texts))
for text, label, shares in zip(texts, served["label"].numpy(), served["probabilities"].numpy()):
    print(f"{label.decode():8} {shares.round(2)} {text}")

# %% [markdown]
# ## A rare class
#
# If one kind is rare, its rows can weigh more. `label_weights` in the record does the same for every run.

# %%
texts = ["request: The bell is broken.", "request: I was charged twice."]
answers = ["repair", "billing"]
model.fit(texts, answers, class_weight={"billing": 3.0}, epochs=8, batch_size=2, verbose=0)
model.generate(texts)
