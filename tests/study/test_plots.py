import struct
import zlib

import numpy as np
import pytest

from keras_spot.study import plots
from keras_spot.study.plots.points import classical_scaling

CURVES = {
    "spot": [[(0, 50.0), (10, 70.0)], [(0, 55.0), (10, 75.0)]],
    "scratch": [[(0, 50), (10, 55)]],
}
RETRIEVAL = {
    "per_token_cosine": [
        {"k": 1, "gain": 1.0, "random_gain": 0.5},
        {"k": 2, "gain": 1.5, "random_gain": 1.0},
    ]
}


def names(count):
    return [f"benchmark/task{i}" for i in range(count)]


def draw(kind, path, count):
    """Draw a picture of a number of tasks, half of them targets."""
    rng = np.random.default_rng(count)
    tasks = names(count)
    sources, targets = tasks[: count // 2], tasks[count // 2 :]
    embeddings = {name: rng.normal(size=(4, 8)) for name in tasks}
    gains = rng.normal(size=(len(sources), len(targets)))
    gains[0, 0] = np.nan
    if kind == "gain_matrix":
        plots.gain_matrix(gains, sources, targets, path, spreads=np.abs(gains) * 0 + 1)
    elif kind == "similarity_heatmap":
        means = np.stack([e.mean(axis=0) for e in embeddings.values()])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        plots.similarity_heatmap(means @ means.T, tasks, path, marked=targets)
    elif kind == "gain_scatter":
        plots.gain_scatter(rng.normal(size=gains.shape), gains, sources, targets, path)
    elif kind == "task_map":
        plots.task_map(embeddings, path, marked=targets)
    elif kind == "top_k_curve":
        plots.top_k_curve(RETRIEVAL, path)
    else:
        plots.learning_curves(CURVES, path, title="title", ylabel="accuracy")


def pixels(path):
    """Width, height and grey values of an 8-bit RGBA PNG, its filters undone."""
    data = path.read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    packed, place = b"", 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        if data[place + 4 : place + 8] == b"IDAT":
            packed += data[place + 8 : place + 8 + length]
        place += 12 + length
    raw = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + 4 * width)
    return width, height, raw


@pytest.mark.parametrize("kind", plots.__all__)
def test_pictures_are_not_blank_and_grow_with_the_tasks(tmp_path, kind):
    sizes = []
    for count in (6, 50):
        draw(kind, tmp_path / "picture.png", count)
        width, height, raw = pixels(tmp_path / "picture.png")
        assert 400 < width < 6000
        assert 300 < height < 6000
        assert (raw[:, 1:] != raw[:1, 1:]).any(axis=1).mean() > 0.3
        sizes.append(width * height)
    assert sizes[0] < sizes[1] or kind in ("learning_curves", "top_k_curve")


@pytest.mark.parametrize("kind", ["task_map", "similarity_heatmap"])
def test_equal_pictures_are_equal_files(tmp_path, kind):
    for name in ("a.svg", "b.svg"):
        draw(kind, tmp_path / name, 6)
    content = (tmp_path / "a.svg").read_bytes()
    assert content.startswith(b"<?xml")
    assert len(content) > 5000
    assert content == (tmp_path / "b.svg").read_bytes()


def test_classical_scaling_keeps_distances_of_the_plane():
    points = np.random.default_rng(0).normal(size=(7, 2))
    squared = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    places, shares = classical_scaling(squared)
    np.testing.assert_allclose(((places[:, None] - places[None]) ** 2).sum(axis=-1), squared)
    assert shares.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda path: plots.learning_curves({}, path),
            "`curves` must hold at least one run for every name. Received: {}",
        ),
        (
            lambda path: plots.learning_curves({"a": []}, path),
            "`curves` must hold at least one run for every name. Received: {'a': []}",
        ),
        (
            lambda path: plots.learning_curves({"a": [[(0, 1.0)], [(5, 1.0)]]}, path),
            "`curves` must have the same steps in all runs of a name. Received: a",
        ),
        (
            lambda path: plots.top_k_curve({}, path),
            "`retrieval` must hold at least one record for every name. Received: {}",
        ),
        (
            lambda path: plots.gain_matrix(np.full((1, 2), np.nan), ["a"], ["b", "c"], path),
            "`gains` must be numbers [1, 2], not all NaN. Received: shape=(1, 2)",
        ),
        (
            lambda path: plots.similarity_heatmap(np.ones((1, 1)), ["a"], path),
            "`similarities` must be finite numbers [1, 1] of at least 2 tasks. "
            "Received: shape=(1, 1)",
        ),
        (
            lambda path: plots.gain_scatter(np.ones((1, 1)), np.ones((1, 2)), ["a"], ["b"], path),
            "`similarities` must be numbers [1, 1], as many as `gains`. "
            "Received: shapes (1, 1) and (1, 2)",
        ),
        (
            lambda path: plots.task_map({"a": np.ones((1, 2))}, path),
            "`embeddings` must hold at least three tasks. Received: 1",
        ),
        (
            lambda path: plots.learning_curves(CURVES, path.with_name("x.jpg")),
            "`path` must end in .png or .svg. Received: path='x.jpg'",
        ),
    ],
)
def test_nothing_to_draw(tmp_path, monkeypatch, make, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:
        make(type(tmp_path)("x.png"))
    assert str(error.value) == message
    assert list(tmp_path.iterdir()) == []
