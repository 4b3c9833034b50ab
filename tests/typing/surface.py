"""The public surface as its users write it; checked with mypy --strict and pyright, never run."""

from pathlib import Path

import numpy as np

import keras_spot
from keras_spot import (
    InvalidArgument,
    Recipe,
    SoftPrompt,
    errors,
    initializers,
    prompts,
    reparameterizations,
)


def build_and_train(folder: Path) -> float:
    recipe = Recipe(prompt_length=20, learning_rate=0.1)
    model = keras_spot.build(
        "tiny", initializers.mean_of({"a.npz": 0.5, "b.npz": 0.5}), recipe=recipe, dtype="bfloat16"
    )
    train = keras_spot.load_task("synthetic/movies", "train", model.preprocessor.tokenizer)
    model.compile(sampler="top_k")
    model.fit(train, callbacks=[keras_spot.PromptCheckpoint(folder, every=10)])
    answers = model.generate(["sst2 sentence: a gorgeous, witty film"])
    answers.append(model.generate("one text"))
    model.save_prompt(folder / "p.npz", task="synthetic/movies")
    model.load_prompt(folder / "p.npz")
    model.export(folder / "served")
    width: int = model.prompt.shape[1]
    scores = keras_spot.evaluate(model, "synthetic/movies", method="rank")
    return scores.scores["accuracy"] + width


def runs(folder: Path) -> dict[str, float]:
    trained = keras_spot.train("synthetic/movies", folder, steps=3, seed=1, method="rank")
    keras_spot.train("synthetic/products", folder / "target", prompt_init=trained.run_dir)
    bank = keras_spot.train_bank(["synthetic/movies", "glue/rte"], folder / "bank", seed=[1, 2])
    run = keras_spot.Run(task="synthetic/movies", learning_rate=0.1, kernels="plain")
    again = keras_spot.execute(run, folder / "again", progress=None, restart=True)
    keras_spot.retrieval.retrieve("top-k", run, folder / "transfer", "library", k=3)
    return {name: run.history[-1]["score"] for name, run in {**bank.runs, **again.runs}.items()}


def reparameterized(folder: Path) -> float:
    model = keras_spot.build("tiny", reparameterization={"low-rank": {"rank": 16}})
    layer = reparameterizations.Residual(bottleneck=400, layer_norm=False)
    run = keras_spot.Run(task="synthetic/movies", reparameterization=layer)
    keras_spot.train("synthetic/movies", folder, reparameterization="vocabulary-mixture")
    keras_spot.train_bank(["synthetic/movies", "glue/rte"], folder, reparameterization="shared")
    keras_spot.retrieval.retrieve(keras_spot.retrieval.Learned("free"), run, folder, "library")
    recycled = keras_spot.recycling.recycle_prompt(folder, "tiny", method="lin-comb")
    return float(model.soft_prompt.values().mean() + recycled.values.mean())


def starts(path: Path) -> None:
    for start in (
        path,
        str(path),
        "uniform",
        np.ones((2, 3)),
        prompts.read(path),
        initializers.from_numpy(path, step="best"),
        initializers.from_text("a text"),
        initializers.sampled_vocab(seed=1),
    ):
        keras_spot.build("tiny", start, prompt_length=4)
    keras_spot.build("tiny", [None, path], prompt_names=["a", "b"], seed=[1, 2])


def a_layer_of_ones_own() -> list[float]:
    layer = SoftPrompt(length=100, initializer=initializers.uniform(seed=1), name="prompt")
    optimizer = keras_spot.optimizers.Adafactor(learning_rate=0.3, weight_decay=None)
    loss = keras_spot.losses.TokenCrossEntropy(z_loss=1e-4)
    print(layer, optimizer, loss, keras_spot.losses.TokenAccuracy())
    return [float(np.asarray(prompt).mean()) for prompt in layer.prompts]


def files(path: Path) -> str:
    prompt = prompts.read(path)
    values: np.ndarray = prompt.values
    written: Path = prompts.write(path, values, {"task": "glue/sst2"})
    shape, provenance = prompts.read_header(written)
    rows: int = shape[0]
    return f"{rows} {provenance['task']} {prompts.steps(path)[-1]}"


def libraries(folder: Path, prompt: prompts.Prompt) -> list[tuple[str, float]]:
    library = keras_spot.PromptLibrary(folder)
    library.add("mnli", prompt, task="glue/mnli")
    return library.rank(prompt, by="per_token_cosine")


def backbones() -> str:
    backbone, tokenizer = keras_spot.backbones.load("tiny")
    if tokenizer is None:
        raise errors.MissingFile("no vocabulary")
    return keras_spot.backbones.fingerprint(backbone)


def mistakes() -> str:
    try:
        keras_spot.tasks.get("glue/sst")
    except InvalidArgument as error:
        return str(error)
    except errors.USER_ERRORS as error:
        return str(error)
    return keras_spot.__version__
