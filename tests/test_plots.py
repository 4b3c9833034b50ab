import pytest

from keras_spot import plots

CURVES = {
    "spot": [[(0, 50.0), (10, 70.0)], [(0, 55.0), (10, 75.0)]],
    "scratch": [[(0, 50), (10, 55)]],
}


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_curves_are_drawn(tmp_path, suffix):
    path = tmp_path / f"curves.{suffix}"
    plots.learning_curves(CURVES, path, title="title", ylabel="accuracy")
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG" if suffix == "png" else b"<?xml")
    assert len(content) > 5000


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "`curves` must hold at least one run for every name. Received: {}"),
        ({"a": []}, "`curves` must hold at least one run for every name. Received: {'a': []}"),
        (
            {"a": [[(0, 1.0)], [(5, 1.0)]]},
            "`curves` must have the same steps in all runs of a name. Received: a",
        ),
    ],
)
def test_nothing_to_draw(tmp_path, curves, message):
    with pytest.raises(ValueError) as error:
        plots.learning_curves(curves, tmp_path / "x.png")
    assert str(error.value) == message
    assert not (tmp_path / "x.png").exists()
