"""A first look at an installation: train, continue, transfer, answer, export, in half a minute.

    python tools/smoke.py

Run it from outside of the repository, so that the installed package is what is looked at.
"""

import pathlib
import tempfile

import keras_spot
from keras_spot import plots


def main() -> None:
    """Do a little of everything and say with which versions."""
    import keras
    import tensorflow as tf

    folder = pathlib.Path(tempfile.mkdtemp())
    shared = dict(validation_limit=4, method="rank", data_dir=folder / "tfds", progress=None)
    keras_spot.train("synthetic/movies", folder / "source", steps=1, **shared)
    source = keras_spot.train("synthetic/movies", folder / "source", steps=2, **shared)
    assert [line["step"] for line in source.history] == [1, 2]
    target = keras_spot.train(
        "synthetic/products", folder / "target", steps=2, prompt_init=source.run_dir, **shared
    )
    scores = [[(line["step"], line["score"]) for line in target.history]]
    plots.learning_curves({"target": scores}, folder / "curves.svg")
    library = keras_spot.PromptLibrary(folder / "library")
    library.add_run(source.run_dir)
    assert len(library.rank(target.run_dir)) == 1
    text = "products sentence: it broke after a day"
    answer = target.model.generate([text])[0]
    target.model.export(folder / "served")
    serve = tf.saved_model.load(folder / "served").signatures["serving_default"]
    assert serve(text=tf.constant([text]))["outputs"].numpy()[0].decode() == answer
    versions = f"keras {keras.__version__}, tensorflow {tf.__version__}"
    print(f"smoke: keras_spot {keras_spot.__version__} works with {versions}")


if __name__ == "__main__":
    main()
