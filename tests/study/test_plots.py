import re
import struct
import zlib

import matplotlib.figure
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import keras_spot
from keras_spot.study import plots
from keras_spot.study.plots import style
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
    """Return a picture of a number of tasks, half of them targets."""
    rng = np.random.default_rng(count)
    tasks = names(count)
    sources, targets = tasks[: count // 2], tasks[count // 2 :]
    embeddings = {name: rng.normal(size=(4, 8)) for name in tasks}
    gains = rng.normal(size=(len(sources), len(targets)))
    gains[0, 0] = np.nan
    if kind == "gain_matrix":
        return plots.gain_matrix(gains, sources, targets, path, bold=np.abs(gains) > 1)
    if kind == "similarity_heatmap":
        means = np.stack([e.mean(axis=0) for e in embeddings.values()])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        return plots.similarity_heatmap(means @ means.T, tasks, path, marked=targets)
    if kind == "gain_scatter":
        return plots.gain_scatter(rng.normal(size=gains.shape), gains, sources, targets, path)
    if kind == "task_map":
        return plots.task_map(embeddings, path, marked=targets)
    if kind == "top_k_curve":
        return plots.top_k_curve(RETRIEVAL, path)
    if kind == "source_weights":
        return plots.source_weights(tasks, rng.normal(size=len(tasks)), path)
    if kind == "method_scores":
        starts = {start: {name: rng.normal(size=3) for name in tasks} for start in ("a", "b")}
        return plots.method_scores(starts, path, title="methods")
    return plots.learning_curves(CURVES, path, title="title", ylabel="accuracy", majority=52.0)


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


@pytest.mark.parametrize("kind", plots.__all__)
def test_figures_are_returned_and_nothing_is_written(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    figure = draw(kind, None, 6)
    assert isinstance(figure, matplotlib.figure.Figure)
    assert figure.axes
    assert list(tmp_path.iterdir()) == []
    assert figure._repr_png_().startswith(b"\x89PNG")  # what a notebook shows
    assert keras_spot.plots is plots


@pytest.mark.parametrize("kind", plots.__all__)
def test_pictures_follow_the_page_to_dark(tmp_path, kind):
    """Every colour of ink, lines and paper has a dark one; letters on cells stay as they are."""
    draw(kind, tmp_path / "a.svg", 6)
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "@media (prefers-color-scheme:dark)" in text
    drawn = set(re.findall(r'style="[^"]*?(?:fill|stroke): (#[0-9a-f]{6})', text))
    rules = dict(re.findall(r'\[style\*="fill: (#[0-9a-f]{6})"\]\{fill:(#[0-9a-f]{6})!', text))
    assert rules == style.DARK
    assert {style.INK, style.PAPER} <= drawn
    matrix = kind in ("gain_matrix", "similarity_heatmap")  # cells keep their colours
    assert matrix or drawn <= set(rules)
    for light, dark in rules.items():
        if light not in (style.PAPER, style.BLANK, style.RULE):
            assert contrast(dark, style.DARK[style.PAPER]) > 4.5
    for ink in (style.INK, style.PALE):
        assert contrast(ink, style.PAPER) > 4.5


def contrast(one, other):
    """The contrast of two colours (WCAG 2.2)."""

    def luminance(colour):
        values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def shown(figure):
    """Colour -> number of pixels of it in the picture."""
    figure.set_layout_engine("none")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    colours, counts = np.unique(
        np.asarray(canvas.buffer_rgba())[..., :3].reshape(-1, 3), axis=0, return_counts=True
    )
    return {"#" + bytes(c).hex(): n for c, n in zip(colours, counts)}


@pytest.mark.parametrize("kind", ["learning_curves", "top_k_curve"])
def test_lines_that_coincide_can_be_told_apart(kind):
    if kind == "learning_curves":
        runs = [[(0, 50.0), (10, 70.0)]]
        figure = plots.learning_curves({"a": runs, "b": runs, "c": runs})
    else:
        records = RETRIEVAL["per_token_cosine"]
        figure = plots.top_k_curve({"a": records, "b": records, "c": records})
    lines = figure.axes[0].lines[:3]
    assert len({(line.get_linestyle(), line.get_linewidth()) for line in lines}) == 3
    for legend in figure.legends:
        legend.remove()
    pixels_of = shown(figure)
    for colour in style.COLOURS[:3]:
        assert pixels_of.get(colour, 0) > 100, colour


def test_the_majority_class_and_the_step_that_is_kept():
    runs = {"spot": [[(0, 60.0), (10, 80.0), (20, 70.0)]], "scratch": [[(0, 50.0), (10, 52.0)]]}
    figure = plots.learning_curves(runs, majority=52.3, mark_best=True, ylabel="validation F1")
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "validation F1")
    (line,) = [line for line in axes.lines if line.get_label() == "majority class, 52.3"]
    assert list(line.get_ydata()) == [52.3, 52.3]
    rings = [line for line in axes.lines if line.get_markerfacecolor() == "none"]
    points = [tuple(line.get_xydata()[0]) for line in rings if len(line.get_xdata())]
    assert points == [(10, 80), (10, 52)]
    (legend,) = figure.legends
    assert "kept by validation" in [text.get_text() for text in legend.get_texts()]
    without = plots.learning_curves(runs, majority=float("nan"))  # a task without labels
    assert len(without.axes[0].lines) == 2


@pytest.mark.parametrize("name", ["mr", "synthetic/paraphrase_of_questions"])
def test_a_legend_is_as_wide_as_the_picture(name):
    curves = {f"from {name} ({which})": [[(1, 50.0), (2, 51.0)]] for which in ("best", "worst")}
    curves["from scratch"] = [[(1, 50.0), (2, 50.0)]]
    figure = plots.learning_curves(curves, majority=40)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert legend.get_window_extent().x1 <= figure.bbox.width
    assert len(legend.texts) == 4


def test_axes_name_the_metric():
    gains = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, -6.0]])
    names = ["a", "b", "c"], ["t", "u"]
    for figure in (
        plots.gain_matrix(gains, *names, metric="F1"),
        plots.gain_scatter(gains, gains, *names, metric="F1"),
        plots.top_k_curve(RETRIEVAL, metric="F1"),
        plots.learning_curves(CURVES, ylabel="validation F1"),
        plots.similarity_heatmap(np.eye(3), "abc", metric="F1"),
    ):
        texts = [axes.get_ylabel() for axes in figure.axes] + [figure.get_supylabel()]
        assert any("F1" in text for text in texts)


def test_stressed_gains_are_bold_or_dotted():
    gains = np.array([[1.0, 2.0], [30.0, 4.0]])
    bold = np.array([[False, True], [False, False]])
    figure = plots.gain_matrix(gains, ["a", "b"], ["t", "u"], bold=bold)
    weights = {text.get_text(): text.get_fontweight() for text in figure.axes[0].texts}
    assert weights == {"+1.0": "normal", "+2.0": "bold", "+30.0": "normal", "+4.0": "normal"}
    wide = np.tile(gains, (1, 10))
    figure = plots.gain_matrix(wide, ["a", "b"], names(20), bold=np.tile(bold, (1, 10)))
    assert [text.get_text() for text in figure.axes[0].texts] == ["\N{BULLET}"] * 10


@pytest.mark.parametrize("seed", range(4))
def test_names_are_not_struck_through(seed):
    """Neither the regression line nor the zero line crosses a name of a scatter's panel."""
    rng = np.random.default_rng(seed)
    x, y = rng.random((9, 4)), 3 * rng.normal(size=(9, 4))
    sources = [f"glue/source{i}" for i in range(9)]
    figure = plots.gain_scatter(x, y, sources, ["a", "b", "c", "d"])
    figure.draw_without_rendering()
    for axes in figure.axes:
        named = [text for text in axes.texts if text.get_text() in sources]
        assert len(named) == 2
        for text in named:
            box = text.get_window_extent().padded(-1)
            for line in axes.lines:
                path = line.get_transform().transform_path(line.get_path())
                assert not path.intersects_bbox(box, filled=False), text.get_text()


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
            lambda path: plots.gain_matrix(np.ones((1, 1)), ["a"], ["b"], bold=np.ones(2)),
            "`bold` must be booleans [1, 1]. Received: shape=(2,)",
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


def test_weights_are_bars_the_largest_above(tmp_path):
    figure = plots.source_weights(["mnli", "sst2", "qqp"], [0.2, 0.7, 0.1], tmp_path / "w.svg")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["qqp", "mnli", "sst2"]
    assert [bar.get_width() for bar in axes.patches] == [0.1, 0.2, 0.7]
    assert (tmp_path / "w.svg").is_file()
    with pytest.raises(ValueError, match="`weights` must be 2 finite numbers"):
        plots.source_weights(["a", "b"], [1.0])
